"""PyTorch: eager in both memory layouts, ``torch.compile``, and frozen modules for embedding.

Adam is the fused one, or with "compile-step" compiled too. A frozen module's weights are constants, which are laid out
anew for the processor: by TorchScript ("frozen") or by ``torch.compile`` ("compile-frozen").
"""

import os
from typing import Any

import numpy as np
import torch
import torch._inductor.config
from torch import nn
from torch.nn import functional

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def versions(variant: str) -> dict[str, str]:
    """What runs here."""
    return {"torch": torch.__version__}


def make(variant: str, preset: str, params: dict[str, np.ndarray], job: Any) -> "Model":
    """A model with these weights; `variant` is "nchw", "channels_last", or one of those above."""
    return Model(variant, preset, params)


class Model:
    """One network with its optimizer; weights are stored as PyTorch wants them."""

    def __init__(self, variant: str, preset: str, params: dict[str, np.ndarray]) -> None:
        self.cnn = preset == "cnn"
        self.channels_last = self.cnn and variant in ("channels_last", "compile", "compile-step")
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
        # as a tensor the rate is an argument of the compiled step, not a constant of it
        adam = {"lr": torch.tensor(1e-3)} if variant == "compile-step" else {"lr": 1e-3, "fused": True}
        self.optimizer = torch.optim.Adam(self.params.values(), eps=1e-7, **adam)
        self.loss, self.forward, self.update = self._loss, self._forward, self.optimizer.step
        if variant in ("compile", "compile-step"):
            self.loss = torch.compile(self._loss, dynamic=False)
            self.forward = torch.compile(self._forward, dynamic=False)
        if variant == "compile-step":
            self.update = torch.compile(self.optimizer.step)
        if variant == "compile-frozen":
            torch._inductor.config.freezing = True
            self.forward = torch.compile(self._module(), dynamic=False, mode="max-autotune")
        if variant == "frozen":
            scripted = torch.jit.freeze(torch.jit.script(self._module()))
            self.forward = torch.jit.optimize_for_inference(scripted)

    def _module(self) -> nn.Module:
        """The same network as a module in eval mode."""
        layers: list[nn.Module] = []
        for name, w in self.params.items():
            if name.endswith(".b"):
                continue
            if w.ndim == 4:
                layers += [nn.Conv2d(w.shape[1], w.shape[0], 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
                weighted = layers[-3]
            else:
                flat = nn.Flatten() if name == "dense_1.w" else nn.ReLU()
                layers += [flat, nn.Linear(w.shape[1], w.shape[0])]
                weighted = layers[-1]
            state = {"weight": w.detach(), "bias": self.params[name[:-1] + "b"].detach()}
            weighted.load_state_dict(state)
        return nn.Sequential(*layers).eval()

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
        group = self.optimizer.param_groups[0]
        group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], torch.Tensor) else rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(*batch)
        loss.backward()
        self.update()
        return loss.item()

    def embed(self, x: torch.Tensor) -> np.ndarray:
        """Embeddings (N, E)."""
        with torch.inference_mode():
            return self.forward(x).numpy()
