"""STOP: one joint pass of a frozen CLIP over all frames, steered by dynamic prompts.

Source: arXiv 2503.15973, equations 1 to 12; the choices where it is silent are listed in
docs/how-stop-works.md. Letters: B videos, T frames, G = T-1 gaps, P patches a frame, D width of
the vision tower, E embedding size, L prompted blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stopcli.model.clip import Backbone
from stopcli.model.config import StopConfig
from stopcli.model.prompts import PromptModules

NO_CHANGE = 1e-4  # of the tokens' size: smaller differences between frames are arithmetic noise


@dataclass(frozen=True)
class StopTrace:
    """What the prompts did, block by block; empty where there are none of a kind."""

    regions: Tensor  # (L,B,T,P) bool
    scores: Tensor  # (L,B,T,P) in [0,1]
    variation: Tensor  # (L,B,G) in [0,1]
    counts: Tensor  # (L,B,G) whole numbers from 0 to eta


class _Spatial(NamedTuple):
    mask: Tensor  # r (B,T,P), with a straight-through gradient
    scores: Tensor  # W^s (B,T,P)


class _Temporal(NamedTuple):
    tokens: Tensor  # (B,G*eta,D)
    keep: Tensor  # (B,G*eta) bool
    variation: Tensor  # W^t (B,G)
    counts: Tensor  # N^t (B,G)


class Stop(nn.Module):
    """A CLIP backbone, with STOP's prompts or (``config`` None) without: plain CLIP.

    Plain CLIP embeds a video as CLIP4Clip's meanP: image embeddings normalised, averaged over the
    frames, normalised again. A configuration that does not fit the backbone is a ValueError.
    """

    def __init__(self, backbone: Backbone, config: StopConfig | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.prompts = nn.ModuleList()
        self._module_of: dict[int, int] = {}
        if config is None:
            return
        blocks = config.prompted_blocks or tuple(range(len(backbone.blocks)))
        if max(blocks) >= len(backbone.blocks) or min(blocks) < 0:
            raise ValueError(f"prompted_blocks {blocks}: the tower has {len(backbone.blocks)} blocks")
        patches = backbone.grid[0] * backbone.grid[1]
        if config.regions > patches:
            raise ValueError(f"regions must be at most {patches}, the patches of a frame")
        count = 1 if config.shared else len(blocks)
        self.prompts.extend(PromptModules(config, backbone.width, backbone.grid) for _ in range(count))
        self._module_of = {block: i % count for i, block in enumerate(blocks)}

    def train(self, mode: bool = True) -> Stop:
        """Switch the prompts; the frozen backbone always stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def count_parameters(self) -> tuple[int, int]:
        """Return how many parameters train, and how many are frozen."""
        trainable = sum(p.numel() for p in self.prompts.parameters())
        return trainable, sum(p.numel() for p in self.backbone.parameters())

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embed token ids (N,77 or the tower's own length) -> (N,E), unit length."""
        return F.normalize(self.backbone.clip.encode_text(tokens).float(), dim=-1)

    def encode_video(self, pixels: Tensor) -> Tensor:
        """Embed normalised frames (B,T,3,S,S) -> (B,E), unit length."""
        return self._encode(pixels)[0]

    def trace(self, pixels: Tensor) -> tuple[Tensor, StopTrace]:
        """Embed as `encode_video`, and tell where the prompts went."""
        video, steps = self._encode(pixels)
        spatial = [s for s, _ in steps if s is not None]
        temporal = [t for _, t in steps if t is not None]
        return video, StopTrace(
            regions=_stack([s.mask for s in spatial]) > 0.5,
            scores=_stack([s.scores for s in spatial]),
            variation=_stack([t.variation for t in temporal]),
            counts=_stack([t.counts for t in temporal]).long(),
        )

    def _encode(self, pixels: Tensor) -> tuple[Tensor, list[tuple[_Spatial | None, _Temporal | None]]]:
        """Return the embeddings, and what the prompts did in each prompted block."""
        b, t = pixels.shape[:2]
        frames = rearrange(pixels, "b t c h w -> (b t) c h w")
        if self.config is None:
            image = F.normalize(self.backbone.clip.encode_image(frames).float(), dim=-1)  # (B*T,E)
            return F.normalize(image.view(b, t, -1).mean(1), dim=-1), []
        c, h = self.backbone.embed_patches(frames)  # (D), (B*T,P,D)
        c = c.expand(b, 1, -1).to(h.dtype)
        h = rearrange(h, "(b t) p d -> b t p d", t=t)
        last = len(self.backbone.blocks) - 1
        steps = []
        for index in range(last + 1):
            temporal = None
            if index in self._module_of:
                modules = self.prompts[self._module_of[index]]
                h, spatial = self._spatial(modules, index, c, h)
                temporal = self._temporal(modules, h, spatial)
                steps.append((spatial, temporal))
            c, h = self._block(index, c, h, temporal, class_only=index == last)
        return F.normalize(self.backbone.project(c.squeeze(1)).float(), dim=-1), steps

    def _spatial(self, modules: Any, index: int, c: Tensor, h: Tensor) -> tuple[Tensor, _Spatial | None]:
        """Score the patches, choose N_s of each frame, prompt those (equations 3 to 6): h^s (B,T,P,D)."""
        config: StopConfig = modules.config
        if config.spatial == "off":
            return h, None
        if config.spatial == "static":
            zero = h.new_zeros(h.shape[:3], dtype=torch.float32)
            return h + modules.patch_offsets.to(h.dtype), _Spatial(zero, zero)
        x = F.layer_norm(h, h.shape[-1:])
        attention = self.backbone.class_attention(index, c, h)  # A (B,T,P)
        dynamics = modules.temporal_dynamics(x).float()  # M (B,T,P)
        scores = config.alpha * _unit(attention) + (1 - config.alpha) * _unit(dynamics)
        chosen = top_mask(scores, config.regions)
        mask = chosen + chosen * (scores - scores.detach())  # straight-through
        prompt = modules.spatial_prompter(x)
        return h + mask.unsqueeze(-1).to(h.dtype) * prompt, _Spatial(mask, scores)

    def _temporal(self, modules: Any, h: Tensor, spatial: _Spatial | None) -> _Temporal | None:
        """Count and make the prompts of each gap (equations 7 to 11)."""
        config: StopConfig = modules.config
        gaps = h.shape[1] - 1
        if config.temporal == "off" or gaps == 0:
            return None
        if config.temporal == "static":
            tokens = modules.gap_tokens.to(h.dtype).repeat(gaps, 1).expand(h.shape[0], -1, -1)
            full = torch.full((h.shape[0], gaps), config.eta, device=h.device)
            keep = torch.ones(tokens.shape[:2], dtype=torch.bool, device=h.device)
            return _Temporal(tokens, keep, torch.ones_like(full, dtype=torch.float32), full)
        change = frame_changes(h)  # D (B,G,P,D)
        v = modules.frame_variation(change).float()  # (B,G,P)
        mask = spatial.mask if spatial is not None else v.new_zeros(h.shape[:3])
        inside = torch.maximum(mask[:, :-1], mask[:, 1:])
        variation = scale_over_gaps(((1 + config.beta * inside) * v).mean(-1))  # W^t (B,G)
        counts = torch.ceil(config.eta * variation.detach())  # N^t (B,G)
        keep = torch.arange(config.eta, device=h.device) < counts.unsqueeze(-1)  # (B,G,eta)
        # straight-through on the mask, plus the (1 + W^t) weight
        weight = 1 + variation + (variation - variation.detach()) * config.eta
        tokens = modules.temporal_prompter(change) * weight[..., None, None].to(h.dtype)
        return _Temporal(tokens.flatten(1, 2), keep.flatten(1), variation, counts.long())

    def _block(
        self, index: int, c: Tensor, h: Tensor, temporal: _Temporal | None, *, class_only: bool
    ) -> tuple[Tensor, Tensor]:
        """Run one frozen block on [c, all patches, prompts]; the prompts' outputs are dropped.

        Attention does not know the order of its keys, so prompts at the end of the sequence are
        the same as prompts between the frames.
        """
        b, t, p, _ = h.shape
        parts, keep = [c, h.flatten(1, 2)], None
        if temporal is not None:
            parts.append(temporal.tokens.to(h.dtype))
            seen = torch.ones(b, 1 + t * p, dtype=torch.bool, device=h.device)
            keep = torch.cat([seen, temporal.keep], 1)  # (B, 1+T*P+G*eta)
        x = torch.cat(parts, 1)
        if class_only:
            return self.backbone.run_block(index, x, keep, 1), h
        x = self.backbone.run_block(index, x, keep, 1 + t * p)
        return x[:, :1], rearrange(x[:, 1:], "b (t p) d -> b t p d", t=t)


def _unit(x: Tensor) -> Tensor:
    """Scale to [0,1] over the last axis; all-equal values become 0."""
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    return (x - low) / (high - low).clamp_min(1e-12)


def top_mask(scores: Tensor, count: int) -> Tensor:
    """Mark the ``count`` highest of the last axis with 1.0; of equals, the first."""
    order = scores.detach().sort(dim=-1, descending=True, stable=True).indices
    return torch.zeros_like(scores, dtype=torch.float32).scatter_(-1, order[..., :count], 1.0)


def frame_changes(h: Tensor) -> Tensor:
    """Return D_i = h_{i+1} - h_i in units of the video's token size: (B,T,P,D) -> (B,T-1,P,D).

    Patches that change by less than arithmetic noise count as unchanged.
    """
    size = h.detach().float().square().mean((1, 2, 3), keepdim=True).sqrt()  # (B,1,1,1)
    change = (h[:, 1:] - h[:, :-1]) / size.to(h.dtype)
    noise = max(NO_CHANGE, 2 * torch.finfo(h.dtype).eps)
    moved = change.detach().abs().amax(-1, keepdim=True) > noise
    return change * moved


def scale_over_gaps(v: Tensor) -> Tensor:
    """Scale (B,G) to [0,1] over the gaps of each video; no change at all is 0, equal changes are 1."""
    low, high = v.amin(-1, keepdim=True), v.amax(-1, keepdim=True)
    spread = high - low
    level = spread <= 1e-6 * high  # also true where all is zero
    scaled = (v - low) / torch.where(level, torch.ones_like(spread), spread)
    return torch.where(level, (v > 0).to(v.dtype), scaled)


def _stack(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors) if tensors else torch.zeros(0)
