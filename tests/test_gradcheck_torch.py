"""The same faults before PyTorch's checker and before ours. Skipped where PyTorch is not installed."""

import mutants
import numpy as np
import pytest

torch = pytest.importorskip("torch")

REAL = [mutant for mutant in mutants.MUTANTS if not mutant.equivalent]


def passes(operation, backward, arrays, **options) -> bool:
    """What torch.autograd.gradcheck says of a NumPy pass wrapped as an autograd function."""

    class Pass(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *values):
            ctx.arrays = [value.detach().numpy() for value in values]
            return torch.as_tensor(np.asarray(operation.forward(*ctx.arrays), dtype=float))

        @staticmethod
        def backward(ctx, dout):
            return tuple(torch.as_tensor(np.ascontiguousarray(g)) for g in backward(dout.numpy(), *ctx.arrays))

    values = [torch.tensor(array, requires_grad=True) for array in arrays]
    torch.manual_seed(0)
    return bool(torch.autograd.gradcheck(Pass.apply, values, raise_exception=False, **options))


@pytest.mark.parametrize("fast", [False, True], ids=["slow mode", "fast mode"])
def test_what_the_torch_checker_says(fast, capsys):
    """Every fault that it finds, ours finds; and it passes some, and cannot tell others from the correct gradient."""
    found = {mutants.CAUGHT: [], mutants.PASSED: [], mutants.CANNOT_TELL: []}
    for mutant in REAL:
        assert mutants.outcome(mutants.CHECKERS["ours"], mutant, 0) == mutants.CAUGHT, mutant.name

        def says(operation, backward, arrays, rng):
            return passes(operation, backward, arrays, fast_mode=fast)

        found[mutants.outcome(says, mutant, 0)].append(mutant.name)
    assert found[mutants.PASSED]
    with capsys.disabled():
        print(f"\ntorch {torch.__version__}, {'fast' if fast else 'slow'} mode, {len(REAL)} faults:")
        for kind, names in found.items():
            print(f"  {kind}: {len(names)}")
            if kind != mutants.CAUGHT:
                print("\n".join(f"    {name}" for name in names))


def test_our_rendering_of_its_rule_is_fair():
    """Where the re-implemented slow rule of the table accepts or refuses, so does the original."""
    for mutant in REAL:
        operation = mutants.OPERATIONS[mutant.operation]
        for arrays in operation.points(np.random.default_rng(0)):
            with np.errstate(all="ignore"):
                ours = mutants.torch_slow(operation, mutant.backward, arrays, None)
            theirs = passes(operation, mutant.backward, arrays)
            assert ours or not theirs, mutant.name  # the original checks more than its rule, never less
