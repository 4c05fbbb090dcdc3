"""PyTorch: eager in both memory layouts, and ``torch.compile``. Adam is the fused one."""

import os
from typing import Any

import numpy as np
import torch
from torch.nn import functional

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def versions() -> dict[str, str]:
    """What runs here."""
    return {"torch": torch.__version__}


def make(variant: str, preset: str, params: dict[str, np.ndarray]) -> "Model":
    """A model with these weights; `variant` is "nchw", "channels_last" or "compile"."""
    return Model(variant, preset, params)


class Model:
    """One network with its optimizer; weights are stored as PyTorch wants them."""

    def __init__(self, variant: str, preset: str, params: dict[str, np.ndarray]) -> None:
        self.cnn = preset == "cnn"
        self.channels_last = self.cnn and variant != "nchw"
        self.params = {}
        for name, value in params.items():
            tensor = torch.tensor(value)
            if tensor.ndim == 4:
                tensor = tensor.permute(3, 2, 0, 1).contiguous()
                if self.channels_last:
                    tensor = tensor.contiguous(memory_format=torch.channels_last)
            elif self.cnn and name == "dense_1.w" and not self.channels_last:
                # the features come as (C, H, W) here, not as (H, W, C)
                channels = params["conv2d_2.b"].size
                side = int((tensor.shape[0] // channels) ** 0.5)
                tensor = tensor.reshape(side, side, channels, -1).permute(2, 0, 1, 3).reshape(tensor.shape)
            if tensor.ndim == 2:
                tensor = tensor.T.contiguous()
            self.params[name] = tensor.requires_grad_()
        self.optimizer = torch.optim.Adam(self.params.values(), lr=1e-3, eps=1e-7, fused=True)
        self.loss, self.forward = self._loss, self._forward
        if variant == "compile":
            self.loss = torch.compile(self._loss, dynamic=False)
            self.forward = torch.compile(self._forward, dynamic=False)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        p = self.params
        if self.cnn:
            for name in ("conv2d_1", "conv2d_2"):
                x = functional.conv2d(x, p[name + ".w"], p[name + ".b"], padding=1)
                x = functional.max_pool2d(functional.relu(x), 2)
            if self.channels_last:
                x = x.permute(0, 2, 3, 1)
        x = x.flatten(1)
        dense = sum(name.startswith("dense") for name in p) // 2
        for number in range(1, dense + 1):
            x = functional.linear(x, p[f"dense_{number}.w"], p[f"dense_{number}.b"])
            if number < dense:
                x = functional.relu(x)
        return x

    def _loss(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        a, b = self._forward(x).chunk(2)
        dist = (a - b).square().sum(1).clamp(min=1e-12).sqrt()
        return ((1 - label) * dist.square() + label * functional.relu(1 - dist).square()).mean() / 2

    def load_images(self, images: np.ndarray) -> torch.Tensor:
        """Images (N, H, W, C) as the tensor the network takes."""
        x = torch.tensor(images)
        if not self.cnn:
            return x.flatten(1)
        x = x.permute(0, 3, 1, 2)
        return x.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def load(self, images: np.ndarray, label: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch for `step`."""
        return self.load_images(images), torch.tensor(label, dtype=torch.float32)

    def step(self, batch: Any, rate: float) -> float:
        """One training step; returns the loss."""
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(*batch)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def embed(self, x: torch.Tensor) -> np.ndarray:
        """Embeddings (N, E)."""
        with torch.inference_mode():
            return self.forward(x).numpy()
