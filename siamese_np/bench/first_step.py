"""One process from its start to its second training step: ``python -m siamese_np.bench.first_step PRESET SECONDS``.

SECONDS is `time.time()` just before the process was started. Prints one JSON object: seconds since then at which
the interpreter ran, the imports were done, and the first and second training steps were done.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def main(preset: str, started: float) -> dict[str, Any]:
    """Train two steps on random images; the moments, and what each kernel took to compile."""
    moments = {"interpreter": time.time() - started}
    import numpy as np

    from siamese_np.bench.peers.with_siamese_np import Model
    from siamese_np.network import make_network

    watches = Stopwatches()
    moments["imports"] = time.time() - started
    params = make_network(preset).named_params()
    rng = np.random.default_rng(0)
    model = Model(preset, {name: value.copy() for name, value in params.items()})
    batch = model.load(rng.random((32, 28, 28, 1), np.float32), np.arange(16) % 2)
    for name in ("first_step", "second_step"):
        model.step(batch, 1e-3)
        moments[name] = time.time() - started
    return {"moments": moments, "kernels": watches.seconds}


class Stopwatches:
    """Seconds that each kernel's compilation takes, or its loading; with callees that are new to the process."""

    def __init__(self) -> None:
        from siamese_np import kernels

        self.seconds: dict[str, float] = {}
        for name in kernels.__all__:
            kernel = getattr(kernels, name)
            if hasattr(kernel, "compile"):
                kernel.compile = self._watched(name, kernel.compile)

    def _watched(self, name: str, compile_it: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return compile_it(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 3)

        return watched


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))))
