"""Whether Numba's private names do what the package needs: kernels against the textbook, in a process of its own.

`numba_compat` starts it. What it compiles stays in the cache, for the process that waits for it.
"""

import inspect
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def main() -> None:
    """Raise AssertionError, or whatever else, if something is wrong; or crash."""
    from siamese_np.runtime.scheduler import set_threads

    set_threads(2)
    rng = np.random.default_rng(0)
    emb, classes, margin = rng.standard_normal((100, 8), np.float32), np.arange(100) % 7, np.float32(3)
    sums, dist = np.zeros((100, 3), np.float32), np.zeros((100, 100), np.float32)
    sums, dist = _compare("all_pairs_forward", [sums, dist], emb, classes, margin)
    demb, weight = np.zeros_like(emb), np.ones(2, np.float32)
    (demb,) = _compare("all_pairs_backward", [demb], weight, dist, emb, classes, margin)
    w, m, v, dw = rng.random((4, 4000), np.float32)
    chunks = np.arange(0, 4000, 100)[:, None] + [0, 100]
    _compare("adam_step", [w, m, v], dw, chunks, *np.array([1e-3, 0.9, 0.999, 1e-7, 0.1, 0.01, 0.1], np.float32))


def _compare(name, outputs, *inputs):
    """What the kernel `name` computes, in two threads at once, again and again, and once more from the cache."""
    from siamese_np import kernels, textbook
    from siamese_np.backend import as_kernel
    from siamese_np.runtime.jit import kernel

    compiled = getattr(kernels, name)
    loaded = kernel(inspect.unwrap(compiled))

    def run(function):
        results = [output.copy() for output in outputs]
        function(*results, *inputs)
        return results

    expected, first = run(as_kernel(getattr(textbook, name), compiled)), run(compiled)
    with ThreadPoolExecutor(2) as pool:
        for results in pool.map(run, [compiled] * 200 + [loaded]):
            for result, same, close in zip(results, first, expected, strict=True):
                if not (np.array_equal(result, same) and np.allclose(result, close, rtol=1e-3, atol=1e-4)):
                    raise AssertionError(f"{name} differs from itself or from the textbook")  # also under python -O
    return first
