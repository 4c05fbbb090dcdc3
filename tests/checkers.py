"""Faults in backward passes before gradient checkers: ours, those that are installed, and the rules of others.

``python tests/checkers.py`` writes the tables of benchmarks/results/gradcheck.md. PyTorch, JAX and autograd are asked
themselves, where Python has them (``pip install torch jax autograd``); the others by a rendering of their rules.
"""

import argparse
import contextlib
import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mutants
import mutants_wild
import numpy as np
from mutants import Arrays, Backward, Operation, case_of

from siamese_np.gradcheck.engine import Options, check_case

# Says of a pass at a point: correct (True), wrong (False), or that it could not decide (None).
Checker = Callable[[Operation, Backward, Arrays, np.random.Generator], bool | None]


# --- the faults -------------------------------------------------------------------------------------------

KINKED = {"relu": 1, "maxpool2d": 1, "maxpool2d, overlapping": 1, "distance": 1}  # of mutants: points from here on
PUBLIC, SMOOTH, KINKS = KINDS = (
    "bugs of public code",
    "other faults where the function is differentiable",
    "faults at kinks alone",
)


@dataclass(frozen=True)
class Fault:
    """A wrong backward pass, and the points where it is wrong: all differentiable, or all with kinks."""

    kind: str
    name: str
    operation: Operation
    backward: Backward
    first: int = 99  # the number of the first point with kinks

    def points(self, seed: int) -> dict[int, Arrays]:
        """The points that a seed draws, by number: those of its kind."""
        points = self.operation.points(np.random.default_rng([seed, zlib.crc32(self.name.split(": ")[0].encode())]))
        return {
            number: arrays
            for number, arrays in enumerate(points)
            if (number >= self.first) == (self.kind == KINKS) and self.wrong(arrays)
        }

    def wrong(self, arrays: Arrays) -> bool:
        """Whether its gradient is not the correct one there."""
        dout = np.random.default_rng(0).standard_normal(np.shape(self.operation.forward(*arrays)))
        pairs = zip(self.backward(dout, *arrays), self.operation.backward(dout, *arrays), strict=True)
        return not all(np.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in pairs)


def _faults() -> list[Fault]:
    found = [
        Fault(PUBLIC, mutant.name, mutants_wild.OPERATIONS[mutant.operation], mutant.backward)
        for mutant in mutants_wild.MUTANTS
    ]
    for mutant in mutants.MUTANTS:
        if not mutant.equivalent:
            operation, first = mutants.OPERATIONS[mutant.operation], KINKED.get(mutant.operation, 99)
            fault = Fault(SMOOTH, mutant.name, operation, mutant.backward, first)
            kind = SMOOTH if fault.points(0) else KINKS
            found.append(Fault(kind, mutant.name, operation, mutant.backward, first))
    return sorted(found, key=lambda fault: KINDS.index(fault.kind))


with np.errstate(all="ignore"):
    FAULTS = _faults()


# --- ours, and those that are installed -------------------------------------------------------------------


def ours(operation, backward, arrays, rng, declared=False):
    """As of a user's layer; or with what is declared for our own: values at kinks, and branches."""
    options = Options(int(rng.integers(2**31)))
    verdict = check_case(case_of(operation, backward, arrays, "fault", declared), options).verdict
    return {"PASS": True, "FAIL": False}.get(verdict)


def torch(operation, backward, arrays, rng, **options):
    """torch.autograd.gradcheck of the pass as a torch.autograd.Function."""
    import torch

    class Pass(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *values):
            ctx.arrays = [value.detach().numpy() for value in values]
            return torch.as_tensor(np.asarray(operation.forward(*ctx.arrays), dtype=float))

        @staticmethod
        def backward(ctx, dout):
            return tuple(torch.as_tensor(np.array(g)) for g in backward(dout.numpy(), *ctx.arrays))

    torch.manual_seed(int(rng.integers(2**31)))
    values = [torch.tensor(array, requires_grad=True) for array in arrays]
    return bool(torch.autograd.gradcheck(Pass.apply, values, raise_exception=False, **options))


def jax(operation, backward, arrays, rng):
    """jax.test_util.check_grads of the pass as a jax.custom_vjp, in float64."""
    import jax
    import jax.test_util

    jax.config.update("jax_enable_x64", True)

    @jax.custom_vjp
    def run(*values):
        return jax.numpy.asarray(operation.forward(*map(np.asarray, values)), float)

    def run_backward(values, dout):
        gradients = backward(np.asarray(dout), *map(np.asarray, values))
        return tuple(jax.numpy.asarray(gradient) for gradient in gradients)

    run.defvjp(lambda *values: (run(*values), values), run_backward)
    return _agrees(lambda: jax.test_util.check_grads(run, tuple(arrays), order=1, modes=["rev"]))


def autograd(operation, backward, arrays, rng):
    """autograd.test_util.check_grads of the pass as a primitive, in all arguments together."""
    import autograd.extend
    import autograd.test_util

    run = autograd.extend.primitive(lambda *values: np.asarray(operation.forward(*values), float))
    autograd.extend.defvjp(
        run,
        *(lambda out, *values, n=n: lambda dout: backward(np.asarray(dout), *values)[n] for n in range(len(arrays))),
    )
    np.random.seed(int(rng.integers(2**31)))  # noqa: NPY002
    check = autograd.test_util.check_grads(run, tuple(range(len(arrays))), modes=["rev"], order=1)
    return _agrees(lambda: check(*arrays))


def _agrees(check: Callable[[], None]) -> bool:
    try:
        check()
    except AssertionError:
        return False
    return True


# --- the rules of others ----------------------------------------------------------------------------------
#
# Method, step and decision of each, re-implemented from their sources; their further checks (shapes, repeated
# backward calls, undefined gradients ...) are not.


def jacobians(operation: Operation, backward: Backward, arrays: Arrays, step: float) -> list[tuple[Any, Any]]:
    """(outputs, entries) analytic and central Jacobian for each array."""
    out = np.asarray(operation.forward(*arrays))
    rows = []
    for k in range(out.size):
        dout = np.zeros(out.size)
        dout[k] = 1
        rows.append([g.ravel() for g in backward(dout.reshape(out.shape), *arrays)])
    return [(np.array([row[n] for row in rows]), columns(operation, arrays, n, step)) for n in range(len(arrays))]


def columns(operation: Operation, arrays: Arrays, n: int, step: float, both: bool = True) -> np.ndarray:
    """(outputs, entries) difference quotients in the array of number n, central or to the right."""
    here = np.asarray(operation.forward(*arrays)).ravel()
    found = []
    for index in np.ndindex(arrays[n].shape):
        moved = [a.copy() for a in arrays]
        moved[n][index] += step
        above = np.asarray(operation.forward(*moved)).ravel()
        moved[n][index] -= 2 * step
        below = np.asarray(operation.forward(*moved)).ravel()
        found.append((above - below) / (2 * step) if both else (above - here) / step)
    return np.array(found).T


def along(operation: Operation, arrays: Arrays, directions: Arrays, step: float) -> np.ndarray:
    """Central difference of the output along a direction."""
    above, below = ([a + s * step * v for a, v in zip(arrays, directions, strict=True)] for s in (1, -1))
    return (np.asarray(operation.forward(*above)) - operation.forward(*below)) / (2 * step)


def inner(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    return float(sum(np.vdot(a, b) for a, b in zip(left, right, strict=True)))


def pytensor(operation, backward, arrays, rng):
    """To the right, step 1e-7, two projections of [0.5, 1.5): absolute and relative error above 1e-4 fails."""
    for _ in range(2):
        dout = rng.uniform(0.5, 1.5, np.shape(operation.forward(*arrays)))
        for n, gradient in enumerate(backward(dout, *arrays)):
            numeric = dout.ravel() @ columns(operation, arrays, n, 1e-7, both=False)
            off = abs(gradient.ravel() - numeric)
            relative = off / np.maximum(abs(gradient.ravel()) + abs(numeric), 1e-8)
            if (np.minimum(off, relative) > 1e-4).any():
                return False
    return True


def chainer(operation, backward, arrays, rng):
    """One unit direction through everything, no part of it small, step 1e-3: atol 1e-5, rtol 1e-4."""
    size = sum(a.size for a in arrays)
    flat = rng.standard_normal(size)
    flat = np.where(flat < 0, -1, 1) * np.maximum(abs(flat) / np.linalg.norm(flat), 0.1 / np.sqrt(size))
    flat /= np.linalg.norm(flat)
    directions = [
        part.reshape(a.shape)
        for part, a in zip(np.split(flat, np.cumsum([a.size for a in arrays])[:-1]), arrays, strict=True)
    ]
    numeric = along(operation, arrays, directions, 1e-3)
    dout = rng.uniform(-1, 1, numeric.shape)
    a, n = inner(backward(dout, *arrays), directions), float((numeric * dout).sum())
    return abs(a - n) <= 1e-5 + 1e-4 * abs(n)


def caffe(operation, backward, arrays, rng):
    """Step 1e-2, every entry of every output: |a - n| <= 1e-3 max(|a|, |n|, 1); none within a step of ReLU's kink."""
    kinked = operation is mutants.OPERATIONS["relu"]
    return all(
        (abs(a - n) <= 1e-3 * np.maximum(np.maximum(abs(a), abs(n)), 1))[:, ~(kinked & (abs(x.ravel()) <= 1e-2))].all()
        for x, (a, n) in zip(arrays, jacobians(operation, backward, arrays, 1e-2), strict=True)
    )


def cs231n(operation, backward, arrays, rng):
    """Ten random entries of each array, step 1e-5: |a - n| / (|a| + |n|) up to 1e-4, the mark for kinks."""
    dout = rng.standard_normal(np.shape(operation.forward(*arrays)))
    for n, gradient in enumerate(backward(dout, *arrays)):
        numeric = dout.ravel() @ columns(operation, arrays, n, 1e-5)
        chosen = rng.integers(0, gradient.size, 10)
        a, d = gradient.ravel()[chosen], numeric[chosen]
        with np.errstate(all="ignore"):
            if (abs(a - d) / (abs(a) + abs(d)) > 1e-4).any():  # 0/0 is NaN, and NaN is not larger
                return False
    return True


def minitorch(operation, backward, arrays, rng):
    """One random entry of each array, step 1e-6, dout of ones: rtol and atol 1e-2."""
    dout = np.ones(np.shape(operation.forward(*arrays)))
    for n, gradient in enumerate(backward(dout, *arrays)):
        index = int(rng.integers(gradient.size))
        numeric = dout.ravel() @ columns(operation, arrays, n, 1e-6)[:, index]
        if not abs(gradient.ravel()[index] - numeric) <= 1e-2 + 1e-2 * abs(numeric):
            return False
    return True


# --- all of them ------------------------------------------------------------------------------------------

INSTALLED: dict[str, tuple[str, Checker]] = {
    "PyTorch": ("torch", torch),
    "PyTorch, fast_mode": ("torch", functools.partial(torch, fast_mode=True)),
    "PyTorch, atol 0, rtol 1e-6": ("torch", functools.partial(torch, atol=0, rtol=1e-6)),
    "JAX": ("jax", jax),
    "autograd": ("autograd", autograd),
}
OURS: dict[str, Checker] = {
    "ours": ours,
    "ours, told what holds at kinks": functools.partial(ours, declared=True),
}
RULES: dict[str, Checker] = {
    "PyTensor": pytensor,
    "Chainer": chainer,
    "Caffe": caffe,
    "cs231n": cs231n,
    "minitorch": minitorch,
}


def available() -> dict[str, Checker]:
    """Ours, the installed ones, and the rules, in the order of the tables."""
    installed = {name: checker for name, (module, checker) in INSTALLED.items() if find_spec(module)}
    return {**OURS, **installed, **{f"{name} (its rule)": rule for name, rule in RULES.items()}}


CAUGHT, PASSED, CANNOT_TELL = OUTCOMES = ("caught", "passed", "cannot tell")
Memo = dict[tuple[Checker, Operation, int, int], bool | None]


def outcome(checker: Checker, fault: Fault, seed: int, memo: Memo | None = None) -> str:
    """What a checker makes of a fault at the points of a seed where the fault is wrong.

    Caught: it refuses the fault at a point where it does not refuse the correct gradient. Passed: it accepts the fault
    at every point. Cannot tell: neither, so it could not decide, or it refuses the correct gradient as well. `memo`
    keeps what it says of correct gradients.
    """
    memo = {} if memo is None else memo
    found = set()
    for number, arrays in fault.points(seed).items():

        def says(backward: Backward, arrays: Arrays = arrays) -> bool | None:
            with np.errstate(all="ignore"):
                return checker(fault.operation, backward, [a.copy() for a in arrays], np.random.default_rng(seed))

        found.add(says(fault.backward))
        if False in found:
            key = (checker, fault.operation, seed, number)
            if key not in memo:
                memo[key] = says(fault.operation.backward)
            if memo[key] is not False:
                return CAUGHT
    return PASSED if found == {True} else CANNOT_TELL


def overall(outcomes: Sequence[str]) -> str:
    """Caught in every seed; passed in one or more; or neither."""
    if set(outcomes) == {CAUGHT}:
        return CAUGHT
    return PASSED if PASSED in outcomes else CANNOT_TELL


Found = dict[str, list[list[str]]]  # for each checker, for each fault, the outcome at each seed


def summary(found: Found) -> str:
    """Markdown: for each checker, how many faults of each kind it caught, passed, and cannot tell."""
    totals = [sum(fault.kind == kind for fault in FAULTS) for kind in KINDS]
    heads = [f"{total} {kind}" for total, kind in zip(totals, KINDS, strict=True)]
    lines = ["| caught / passed / cannot tell | " + " | ".join(heads) + " |", "|---|" + "---|" * len(KINDS)]
    for name in [*OURS, *INSTALLED, *(name for name in found if name.endswith(" (its rule)"))]:
        cells = ["not installed here"] * len(KINDS)
        if name in found:
            ends = [overall(outcomes) for outcomes in found[name]]
            cells = [
                " / ".join(
                    str(sum(end == kept for end, fault in zip(ends, FAULTS, strict=True) if fault.kind == kind))
                    for kept in OUTCOMES
                )
                for kind in KINDS
            ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table(kind: str, found: Found) -> str:
    """Markdown: each fault of a kind before each checker, with the number of seeds where they differ."""
    lines = ["| fault | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for fault, *cells in zip(FAULTS, *found.values(), strict=True):
        texts = []
        for outcomes in cells:
            counts = {end: outcomes.count(end) for end in OUTCOMES if end in outcomes}
            texts.append(", ".join(counts if len(counts) == 1 else (f"{end} {n}" for end, n in counts.items())))
        if fault.kind == kind:
            lines.append(f"| {fault.name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def page(seeds: int) -> str:
    """Markdown: the faults before all checkers, at the points of so many seeds."""
    memo: Memo = {}
    found = {
        name: [[outcome(checker, fault, seed, memo) for seed in range(seeds)] for fault in FAULTS]
        for name, checker in available().items()
    }
    versions = []
    for name in ("numpy", "torch", "jax", "autograd"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name).partition('+')[0]}")
    equivalent = [f"- {mutant.name}: {mutant.equivalent}" for mutant in mutants.MUTANTS if mutant.equivalent]
    tables = "\n\n".join(f"## {kind[0].upper()}{kind[1:]}\n\n{table(kind, found)}" for kind in KINDS)
    return f"""# Faults before gradient checkers

Written by `python tests/checkers.py` with {", ".join(versions)}:
{len(FAULTS)} faults in backward passes, each drawn {seeds} times. A checker has *caught* a fault if each time it
refuses the fault and, at the same point, does not refuse the correct gradient. It has *passed* a fault that it accepts
once. Else it *cannot tell*: it refuses the correct gradient as well, or could not decide (our INCONCLUSIVE, which
neither accepts nor refuses). Faults that are wrong only at kinks are counted apart.

{summary(found)}

{tables}

## Faults that change no gradient, and are rightly passed

{chr(10).join(equivalent)}
"""


PAGE = Path(__file__).parent.parent / "benchmarks" / "results" / "gradcheck.md"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Show which faults which gradient checkers catch.")
    parser.add_argument("--seeds", type=int, default=10, help="how many points and random draws for each fault (10)")
    parser.add_argument("-o", "--output", type=Path, default=PAGE, help="Markdown file to write (%(default)s)")
    args = parser.parse_args()
    args.output.write_text(page(args.seeds))
