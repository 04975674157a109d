"""The four modules that STOP trains: N^s, P^s, N^t and P^t of arXiv 2503.15973, section 3.

Everything else in the model is CLIP and frozen. Letters: B videos, T frames, G = T-1 gaps between
them, g patches a side, P = g*g patches a frame, D width of the vision tower, H hidden width here.

All inputs are normalised tokens or differences of them, so that the modules do not depend on the
scale of one tower's residual stream. A convolution over (T,g,g) is split into one over time and
one over space, which is what keeps STOP's cost a fraction of CLIP's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stopcli.model.config import StopConfig

GAMMA = 2.0  # at the start; in units of attention logits


class TimeConv(nn.Module):
    """A 3D convolution of kernel (3,1,1), computed as one matrix product."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.taps = nn.Linear(channels, 3 * out, bias=False)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B,T,P,C) -> (B,T,P,out)."""
        before, now, after = self.taps(x).chunk(3, dim=-1)
        # the ends are repeated, not padded with zeros: all frames of a still video stay alike
        before = torch.cat([before[:, :1], before[:, :-1]], 1)
        after = torch.cat([after[:, 1:], after[:, -1:]], 1)
        out: Tensor = before + now + after + self.bias
        return out


class SpaceConv(nn.Module):
    """A 3D convolution of kernel (1,3,3) over the g x g patches of each frame."""

    def __init__(self, channels: int, out: int, grid: tuple[int, int], *, bias: bool = True) -> None:
        super().__init__()
        self.grid = grid
        self.conv = nn.Conv2d(channels, out, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B,T,P,C) -> (B,T,P,out)."""
        b, t = x.shape[:2]
        y = rearrange(x, "b t (h w) c -> (b t) c h w", h=self.grid[0], w=self.grid[1])
        out: Tensor = rearrange(self.conv(y), "(b t) c h w -> b t (h w) c", b=b, t=t)
        return out


class TemporalDynamics(nn.Module):
    """N^s: a correction to the motion found at each patch, from the patch through time and its neighbours.

    It begins at zero, so that regions are right before any training.
    """

    def __init__(self, width: int, grid: tuple[int, int], channels: int = 16) -> None:
        super().__init__()
        self.time = TimeConv(width, channels)
        # no bias: scores are scaled within each frame, so none could change them
        self.space = SpaceConv(channels, 1, grid, bias=False)
        nn.init.zeros_(self.space.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B,T,P,D) -> (B,T,P)."""
        y: Tensor = self.space(F.relu(self.time(x))).squeeze(-1)
        return y


class SpatialPrompter(nn.Module):
    """P^s: a prompt for each chosen patch from its frame and the two beside it."""

    def __init__(self, width: int, grid: tuple[int, int], hidden: int, dropout: float) -> None:
        super().__init__()
        self.time = TimeConv(width, hidden)
        self.space = SpaceConv(hidden, hidden, grid)
        self.middle = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.last.weight)  # spatial prompts begin as no-ops
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        """(B,T,P,D), and the numbers of N patches of each frame (B,T,N) -> (B,T,N,D)."""
        y = self.space(F.relu(self.time(x)))
        y = F.relu(self.middle(y.gather(2, chosen.unsqueeze(-1).expand(*chosen.shape, y.shape[-1]))))
        # hidden units are dropped in the whole clip: the frames of a still video stay alike
        keep = self.dropout(y.new_ones(y.shape[0], 1, 1, y.shape[-1]))
        out: Tensor = self.last(y * keep)
        return out


def bounded(prompt: Tensor, size: Tensor, bound: float) -> Tensor:
    """Keep prompts (...,D) below ``bound`` times ``size``, smoothly: p / (1 + rms(p) / (bound * size)).

    Without a bound they drown the frames: to erase the input is the quickest way down to ln(classes).
    """
    p = prompt.float()
    rms = (p.square().mean(-1, keepdim=True) + 1e-8).sqrt()  # 1e-8: prompts begin at zero
    return (p / (1 + rms / (bound * size))).to(prompt.dtype)


class FrameVariation(nn.Module):
    """N^t: |change| of each patch between two frames; no biases, so no change gives zero."""

    def __init__(self, width: int, grid: tuple[int, int], channels: int = 16) -> None:
        super().__init__()
        self.reduce = nn.Linear(width, channels, bias=False)
        self.space = SpaceConv(channels, 1, grid, bias=False)

    def forward(self, change: Tensor) -> Tensor:
        """(B,G,P,D) -> (B,G,P), not negative."""
        y: Tensor = self.space(F.relu(self.reduce(change))).squeeze(-1)
        return y.abs()


class TemporalPrompter(nn.Module):
    """P^t: eta prompt tokens for each gap, from the change in it."""

    def __init__(self, width: int, grid: tuple[int, int], hidden: int, eta: int, dropout: float) -> None:
        super().__init__()
        self.reduce = nn.Linear(width, hidden)
        self.attention = nn.Linear(hidden, 3 * hidden)
        self.space = SpaceConv(hidden, hidden, grid)
        self.time = TimeConv(hidden, hidden)
        self.pool = nn.Linear(hidden, eta)
        self.last = nn.Linear(hidden, width)
        self.place = nn.Parameter(torch.zeros(eta, width))
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.place, std=width**-0.5)

    def forward(self, change: Tensor) -> Tensor:
        """(B,G,P,D) -> (B,G,eta,D)."""
        x = self.reduce(change)  # (B,G,P,H)
        q, k, v = self.attention(x).chunk(3, dim=-1)
        x = x + F.scaled_dot_product_attention(q, k, v)
        x = self.time(F.relu(self.space(x)))
        weights = self.pool(x).float().softmax(dim=2).to(x.dtype)  # (B,G,P,eta) over patches
        tokens = torch.einsum("bgpe,bgph->bgeh", weights, x)
        out: Tensor = self.dropout(self.last(tokens)) + self.place
        return out


class Prompts(nn.Module):
    """All that trains: sets of the four modules, and gamma (L,), how strongly regions draw attention."""

    def __init__(
        self, config: StopConfig, width: int, grid: tuple[int, int], blocks: int, *, sets: int
    ) -> None:
        super().__init__()
        self.sets = nn.ModuleList(PromptModules(config, width, grid) for _ in range(sets))
        if config.spatial == "dynamic":
            self.gamma = nn.Parameter(torch.full((blocks,), GAMMA))


class PromptModules(nn.Module):
    """One set of the four modules, or the static stand-ins that ignore the input."""

    def __init__(self, config: StopConfig, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        if config.spatial == "dynamic":
            self.temporal_dynamics = TemporalDynamics(width, grid)
            self.spatial_prompter = SpatialPrompter(width, grid, config.hidden, config.dropout)
        elif config.spatial == "static":
            self.patch_offsets = nn.Parameter(torch.zeros(grid[0] * grid[1], width))
        if config.temporal == "dynamic":
            self.frame_variation = FrameVariation(width, grid)
            self.temporal_prompter = TemporalPrompter(width, grid, config.hidden, config.eta, config.dropout)
        elif config.temporal == "static":
            self.gap_tokens = nn.Parameter(torch.randn(config.eta, width) * width**-0.5)
