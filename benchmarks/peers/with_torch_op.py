"""Single operations in PyTorch, whose convolutions are oneDNN's: called directly, without autograd around them.

Variants: "nchw" and "channels_last" are PyTorch's two layouts, which forward and backward are run in; "packed" is a
forward convolution with weights that were brought into oneDNN's own layout before, as inference with frozen weights is.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
aten = torch.ops.aten
ONES = [1, 1]


def versions(variant: str) -> dict[str, str]:
    """What runs here, and up to which instructions."""
    return {"torch": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability()}


def operation(task: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """What to time, and how what it returns becomes arrays: out, or the gradients in the order dx, dw, db."""
    call, order = _call(task, {name: torch.from_numpy(array) for name, array in arrays.items()})

    def read(given: Any) -> list[np.ndarray]:
        tensors = given if isinstance(given, (tuple, list)) else (given,)
        return [np.ascontiguousarray(t.permute(axes).numpy()) for t, axes in zip(tensors, order, strict=False)]

    return call, read


def _call(task: dict[str, Any], t: dict[str, torch.Tensor]) -> tuple[Callable[[], Any], list[tuple[int, ...]]]:
    """The call, and how each result is permuted to (N, H, W, C), (KH, KW, C, F) or (D, E)."""
    forward, variant, stride, pad = task["direction"] == "forward", task["variant"], task["stride"], task["pad"]
    if task["operation"] == "dense":
        x, w, b, dout = t["x"], t["w"].T.contiguous(), t["b"], t["dout"]
        if forward:
            return lambda: functional.linear(x, w, b), [(0, 1)]
        return lambda: (dout @ w, dout.T @ x, dout.sum(0)), [(0, 1), (1, 0), (0,)]
    layout = torch.contiguous_format if variant == "nchw" else torch.channels_last
    x, dout = (t[name].permute(0, 3, 1, 2).contiguous(memory_format=layout) for name in ("x", "dout"))
    images = (0, 2, 3, 1)
    if task["operation"] == "maxpool2d":
        window = task["kernel"]
        if forward:
            return lambda: aten.max_pool2d_with_indices(x, window, stride)[0], [images]
        chosen = aten.max_pool2d_with_indices(x, window, stride)[1]
        more = ([0, 0], ONES, False, chosen)
        return lambda: aten.max_pool2d_with_indices_backward(dout, x, window, stride, *more), [images]
    w, b = t["w"].permute(3, 2, 0, 1).contiguous(memory_format=layout), t["b"]
    if variant == "packed":
        mkldnn = torch.ops.mkldnn
        packed = mkldnn._reorder_convolution_weight(w, pad, stride, ONES, 1, list(x.shape))
        return lambda: mkldnn._convolution_pointwise(x, packed, b, pad, stride, ONES, 1, "none", [], ""), [images]
    if forward:
        return lambda: torch.conv2d(x, w, b, stride, pad), [images]
    how = (stride, pad, ONES, False, [0, 0], 1, [True, True, True])
    return lambda: aten.convolution_backward(dout, x, w, [len(b)], *how), [images, (2, 3, 1, 0), (0,)]
