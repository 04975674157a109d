"""A vision tower's linear layers in 8-bit integers, on a CPU, and whether it still sees the same.

Weights are rounded by output channel, their inputs by token. Real towers have channels that stick out, which
no test with random weights shows: so the first clip of every run is embedded in both ways, and where these
disagree the run ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stopcli.errors import DeviceError
from stopcli.model.towers.standard import Attention

AGREEMENT = 0.995  # least cosine between the embeddings of a clip
MOST = 127  # the largest number
HIDDEN = {"c_fc", "c_proj", "fc1", "fc2", "fc1_g", "fc1_x"}  # a block's hidden layers, in open_clip and timm
READERS = {"AttentionPool2d"}  # reads the weights of its layers by itself
CHUNK = 512  # tokens computed at once: what fits a processor's cache
LEAST = 1e-8  # ... stands for no less than so much of it


class Int8Linear(nn.Module):
    """A linear layer made of a weight (N,K) and a bias (N,); its output has the input's dtype."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        self.scale = (weight.abs().amax(1) / MOST).clamp_min(LEAST)  # (N,)
        self.weight = (weight / self.scale[:, None]).round().to(torch.int8).t()  # (K,N)
        self.bias = torch.zeros(len(weight)) if bias is None else bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """(...,K) -> (...,N)."""
        rows = x.reshape(-1, x.shape[-1])
        out = x.new_empty(len(rows), len(self.bias))
        for part, to in zip(torch.split(rows, CHUNK), torch.split(out, CHUNK), strict=True):
            scale = (part.abs().amax(1, keepdim=True).float() / MOST).clamp_min(LEAST)
            rounded = torch.div(part, scale).round_().to(torch.int8)
            product = torch._int_mm(rounded, self.weight).float().mul_(scale)
            to.copy_(torch.addcmul(self.bias, product, self.scale))
        return out.view(*x.shape[:-1], -1)


class Int8Tower:
    """A vision tower whose linear layers are replaced, and what they were.

    Raises DeviceError for a tower without layers that are known to be called, and not read.
    """

    def __init__(self, visual: nn.Module) -> None:
        self._layers: list[tuple[Any, str, Any, Any]] = []  # where, name, before, now
        for module in list(visual.modules()):
            if isinstance(module, Attention):
                width = module.embed_dim
                weight, bias = module.in_proj_weight, module.in_proj_bias
                parts = [(weight[:width], bias[:width]), (weight[width:], bias[width:])]
                self._layers.append((module, "layers", None, nn.ModuleList(Int8Linear(*p) for p in parts)))
            for name, layer in module.named_children():
                known = name == "out_proj" if isinstance(module, Attention) else name in HIDDEN
                if isinstance(layer, nn.Linear) and known and type(module).__name__ not in READERS:
                    self._layers.append((module, name, layer, Int8Linear(layer.weight, layer.bias)))
        if not self._layers:
            raise DeviceError("--precision int8 does nothing for this model's vision tower; use auto")
        self._use(after=True)

    def _use(self, *, after: bool) -> None:
        for module, name, before, now in self._layers:
            setattr(module, name, now if after else before)

    def check(self, encode: Callable[[], Tensor], found: Tensor, name: str) -> None:
        """Make sure that clips embedded before, ``found`` (B,E), are embedded alike without int8.

        Raises:
            DeviceError: they are not.
        """
        self._use(after=False)
        try:
            expected = encode()
        finally:
            self._use(after=True)
        cosine = float((expected * found).sum(-1).min())
        if not cosine >= AGREEMENT:
            problem = f"embeds your first clip differently in int8 (cosine {cosine:.4f}, needs {AGREEMENT})"
            raise DeviceError(f"{name} {problem}; use --precision auto")
