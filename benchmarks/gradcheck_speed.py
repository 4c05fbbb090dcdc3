"""Forward calls and seconds of a gradient check: ours, and those of PyTorch and JAX where they are installed.

    python benchmarks/gradcheck_speed.py [--large]

Each checker is given the same function at the same float64 point, and a correct gradient: by hand, or by automatic
differentiation. PyTorch counts the same calls as we do: of the function, not of its gradient. Its slow mode moves every
entry, so it is left out where that would take minutes; its fast mode and JAX compare along random directions alone.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from siamese_np.gradcheck import check_gradients

SLOW_LIMIT = 20_000  # entries


def functions(large: bool) -> Iterator[tuple[str, list[np.ndarray], Callable[[Any], Callable[..., Any]], Any]]:
    """Name, arrays, the function for the module whose tanh and sum it uses, and its backward pass."""
    rng = np.random.default_rng(0)

    def product_backward(dout: Any, cache: Any) -> Any:
        out, x, w = cache
        da = dout * (1 - out**2)
        return da @ w.T, x.T @ da

    def tanh_backward(dout: Any, cache: Any) -> Any:
        return dout * (1 - np.tanh(cache[1]) ** 2)

    def sine_backward(dout: Any, cache: Any) -> Any:
        return 1000 * dout * np.cos(1000 * cache[1])

    for n, d, e in ((4, 6, 3), (8, 30, 4), (24, 60, 22)):
        arrays = [rng.standard_normal((n, d)), rng.standard_normal((d, e))]
        yield f"tanh(x @ w), {d * (n + e):,} entries", arrays, lambda xp: lambda x, w: xp.tanh(x @ w), product_backward
    x = rng.standard_normal(500)
    yield "sin(1000 x), 500 entries", [x], lambda xp: lambda x: xp.sin(1000 * x), sine_backward
    for size in (4_999, 5_000, 10_000, 100_000, *((1_000_000,) if large else ())):
        x = rng.standard_normal(size)
        yield f"sum of tanh, {size:,} entries", [x], lambda xp: lambda a: xp.tanh(a).sum(), tanh_backward
        yield f"tanh, {size:,} entries", [x], lambda xp: xp.tanh, tanh_backward


def timed(check: Callable[[Callable[..., Any]], Any], function: Callable[..., Any]) -> str:
    """Calls of `function` and seconds of a check, the second of two where it is short."""
    for _ in range(2):
        calls = 0

        def counted(*arrays: Any) -> Any:
            nonlocal calls
            calls += 1
            return function(*arrays)

        start = time.perf_counter()
        check(counted)
        seconds = time.perf_counter() - start
        if seconds > 1:
            break
    return f"{calls:,} calls, {seconds:.3f} s"


def ours(arrays: list[np.ndarray], make: Any, backward: Any) -> str:
    def check(counted: Callable[..., Any]) -> None:
        def forward(*values: Any) -> Any:
            out = counted(*values)
            return out, (out, *values)

        report = check_gradients(forward, *arrays, backward=backward)
        assert report.verdict != "FAIL", report

    return timed(check, make(np))


def torch_mode(arrays: list[np.ndarray], make: Any, fast: bool) -> str:
    try:
        import torch
    except ImportError:
        return "-"
    if not fast and sum(array.size for array in arrays) > SLOW_LIMIT:
        return "minutes"
    values = [torch.tensor(array, requires_grad=True) for array in arrays]
    return timed(lambda f: torch.autograd.gradcheck(f, values, fast_mode=fast, raise_exception=False), make(torch))


def jax_check(arrays: list[np.ndarray], make: Any) -> str:
    try:
        import jax
        from jax.test_util import check_grads
    except ImportError:
        return "-"
    jax.config.update("jax_enable_x64", True)

    def check(counted: Callable[..., Any]) -> None:
        with contextlib.suppress(AssertionError):  # its tolerance does not suit every function
            check_grads(counted, tuple(arrays), order=1, modes=["rev"])

    return timed(check, make(jax.numpy))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="a million entries too")
    print("| function | siamese_np | torch, slow mode | torch, fast mode | jax check_grads |")
    print("|---|---|---|---|---|")
    for name, arrays, make, backward in functions(parser.parse_args().large):
        modes = (torch_mode(arrays, make, fast) for fast in (False, True))
        print("|", " | ".join([name, ours(arrays, make, backward), *modes, jax_check(arrays, make)]), "|", flush=True)


if __name__ == "__main__":
    main()
