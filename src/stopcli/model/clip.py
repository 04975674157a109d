"""A frozen CLIP: whatever open_clip builds; with a ViT inside, also block by block."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from stopcli.model.preprocess import Preprocess
from stopcli.model.towers.tower import Tower


class Backbone(nn.Module):
    """A CLIP, frozen; ``tower`` is its vision tower, or why that cannot be run block by block."""

    def __init__(
        self, clip: Any, architecture: str, embed_dim: int, preprocess: Preprocess, tower: Tower | str
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.embed_dim = embed_dim
        self.preprocess = preprocess
        self.clip = clip.eval().requires_grad_(False)
        self.tower = tower

    @property
    def logit_scale(self) -> Tensor:
        """CLIP's frozen temperature, as a factor (near 100)."""
        out: Tensor = self.clip.logit_scale.exp()
        return out
