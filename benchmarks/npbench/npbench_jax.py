"""The cases in JAX, each one ``jit``; a module for the processes of benchmarks/peers/worker.py."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax, nn
from jax import numpy as jnp


def versions(variant: str) -> dict[str, str]:
    """What runs here."""
    return {"jax": jax.__version__}


def operation(task: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """What to time, whose first call compiles, and how what it returns becomes arrays of NumPy's."""
    function, given = jax.jit(CASES[task["case"]]), [jnp.array(array) for array in arrays.values()]
    return lambda: function(*given).block_until_ready(), lambda out: [np.asarray(out)]


def conv2d_bias(x: Any, w: Any, b: Any) -> Any:
    """The case ``conv2d_bias``."""
    return lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + b


def _block(x: Any, w: Any, b: Any) -> Any:
    x = nn.relu(conv2d_bias(x, w, b))
    N, H, W, C = x.shape
    return x[:, : H // 2 * 2, : W // 2 * 2].reshape(N, H // 2, 2, W // 2, 2, C).max(axis=(2, 4))


def lenet5(x: Any, *p: Any) -> Any:
    """The case ``lenet``."""
    x = _block(_block(x, *p[:2]), *p[2:4]).reshape(len(x), -1)
    return nn.relu(nn.relu(x @ p[4] + p[5]) @ p[6] + p[7]) @ p[8] + p[9]


def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    """The case ``mlp``."""
    return nn.softmax(nn.relu(nn.relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3)


CASES = {"conv2d_bias": conv2d_bias, "lenet": lenet5, "mlp": mlp}
