"""STOP: one joint pass of a frozen CLIP over all frames, steered by dynamic prompts.

Source: arXiv 2503.15973, equations 1 to 12; the choices where it is silent are listed in
docs/how-stop-works.md. Letters: B videos, T frames, G = T-1 gaps, P patches a frame, D width of
the vision tower, E embedding size, L prompted blocks, K class tokens (1 or, where the tower has none, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stopcli.model.clip import Backbone
from stopcli.model.config import StopConfig
from stopcli.model.motion import Motion, find_motion, unit
from stopcli.model.prompts import Prompts, bounded
from stopcli.model.towers.tower import Layout, Tower

NEVER = -30.0  # added to a key's logit: it is not attended to
NO_CHANGE = 1e-4  # of the tokens' size: smaller differences between frames are arithmetic noise


@dataclass(frozen=True)
class StopTrace:
    """What the prompts did, block by block; empty where there are none of a kind."""

    regions: Tensor  # (L,B,T,P) bool
    scores: Tensor  # (L,B,T,P) in [0,1]
    bias: Tensor  # (L,B,T,P): added to the patches' attention logits; 0 for the best of each frame
    variation: Tensor  # (L,B,G) in [0,1]
    counts: Tensor  # (L,B,G) whole numbers from 0 to eta
    energy: Tensor  # (B,T,P), see `stopcli.model.motion`; empty where nothing asks what moves
    certainty: Tensor  # (B,T) in [0,1]
    attention: Tensor  # (B,T,P): where the class token looks within each frame, in the last block


class _Spatial(NamedTuple):
    mask: Tensor | None  # r (B,T,P), with a straight-through gradient; None with focus, which chooses none
    scores: Tensor  # W^s (B,T,P)
    bias: Tensor  # (B,T,P)


class _Temporal(NamedTuple):
    tokens: Tensor  # (B,G*eta,D)
    weight: Tensor  # (B,G*eta), the log of how many tokens each counts for
    variation: Tensor  # W^t (B,G)
    counts: Tensor  # N^t (B,G)


class _Pass(NamedTuple):
    video: Tensor  # (B,E)
    steps: list[tuple[_Spatial | None, _Temporal | None]]  # of each prompted block
    motion: Motion | None
    attention: Tensor | None  # (B,T,P), of the last block


class Stop(nn.Module):
    """A CLIP backbone, with STOP's prompts or (``config`` None) without: plain CLIP.

    Plain CLIP embeds a video as CLIP4Clip's meanP: image embeddings normalised, averaged over the
    frames, normalised again. With a ``focus`` above 0 its attention is drawn to what moves: the keys of
    patches lose up to so much of their logits beside the one of the frame that moves most. A configuration
    that does not fit the backbone is a ValueError.
    """

    def __init__(self, backbone: Backbone, config: StopConfig | None, *, focus: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.focus = focus
        self.prompts: Any = nn.Module()
        self._place_of: dict[int, tuple[int, int]] = {}  # block: its number among the prompted, its set
        if config is None:
            return
        tower = self.tower
        blocks = config.prompted_blocks or tuple(range(tower.depth))
        if max(blocks) >= tower.depth or min(blocks) < 0:
            raise ValueError(f"prompted_blocks {blocks}: the tower has {tower.depth} blocks")
        self.regions = max(1, round(config.regions * tower.grid[0] * tower.grid[1]))  # N_s
        sets = 1 if config.shared else len(blocks)
        self.prompts = Prompts(config, tower.width, tower.grid, len(blocks), sets=sets)
        self._place_of = {block: (i, i % sets) for i, block in enumerate(blocks)}

    @property
    def tower(self) -> Tower:
        """The vision tower, block by block; ValueError if it has no ViT blocks."""
        if isinstance(self.backbone.tower, str):
            raise ValueError(f"{self.backbone.architecture}: {self.backbone.tower}")
        return self.backbone.tower

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
        return self._encode(pixels).video

    def trace(self, pixels: Tensor) -> tuple[Tensor, StopTrace]:
        """Embed as `encode_video`, and tell where the prompts went, or where focus drew attention."""
        done = self._encode(pixels, look=True)
        motion = done.motion
        if done.attention is None:
            raise ValueError(f"{self.backbone.architecture}: {self.backbone.tower}")
        spatial = [s for s, _ in done.steps if s is not None]
        temporal = [t for _, t in done.steps if t is not None]
        return done.video, StopTrace(
            regions=_stack([s.mask for s in spatial if s.mask is not None]) > 0.5,
            scores=_stack([s.scores for s in spatial]),
            bias=_stack([s.bias for s in spatial]),
            variation=_stack([t.variation for t in temporal]),
            counts=_stack([t.counts for t in temporal]).long(),
            energy=motion.energy if motion is not None else torch.zeros(0),
            certainty=motion.certainty if motion is not None else torch.zeros(0),
            attention=done.attention,
        )

    def _encode(self, pixels: Tensor, *, look: bool = False) -> _Pass:
        """Embed, and keep what the prompts did; ``look`` computes the last attention too."""
        if self.config is None:
            return _encode_frames(self, pixels, look=look)
        b, t = pixels.shape[:2]
        tower = self.tower
        c, h = tower.embed(pixels.flatten(0, 1))  # (K,D), (B*T,P,D)
        c = c.expand(b, -1, -1).to(h.dtype)
        h = rearrange(h, "(b t) p d -> b t p d", t=t)
        motion = _motion(tower, pixels) if self.config.spatial == "dynamic" else None
        last, attention = tower.depth - 1, None
        steps: list[tuple[_Spatial | None, _Temporal | None]] = []
        for index in range(last + 1):
            spatial = temporal = None
            if index in self._place_of:
                number, which = self._place_of[index]
                modules = self.prompts.sets[which]
                h, spatial = self._spatial(modules, index, number, c, h, motion)
                temporal = self._temporal(modules, h, spatial)
                steps.append((spatial, temporal))
            if look and index == last:
                bias = None if spatial is None else spatial.bias
                attention = tower.look(index, c, h, bias)
            x = self._block(index, c, h, spatial, temporal, class_only=index == last and tower.class_only)
            c, h = x[:, : tower.prefix], rearrange(x[:, tower.prefix :], "b (t p) d -> b t p d", t=t)
        video = F.normalize(tower.read(x, t).float(), dim=-1)
        if share := self.config.plain:
            alone = _encode_frames(self, pixels, look=False).video
            video = F.normalize((1 - share) * video + share * alone, dim=-1)
        return _Pass(video, steps, motion, attention)

    def region_scores(
        self, modules: Any, index: int, c: Tensor, h: Tensor, x: Tensor, motion: Motion
    ) -> Tensor:
        """Score the patches (equations 3 to 5), x being h normalised: W^s (B,T,P) in [0,1].

        Where it is not certain what moves, attention decides. No gradient goes through that: it would
        train the prompts to move the class token.
        """
        attention = self.tower.look(index, c.detach(), h.detach())  # A (B,T,P)
        correction = modules.temporal_dynamics(x).float()
        dynamics = unit(motion.strength() + correction, 1.0)  # M (B,T,P)
        alpha: float = modules.config.alpha
        return alpha * unit(attention) + (1 - alpha) * dynamics

    def _spatial(
        self, modules: Any, index: int, number: int, c: Tensor, h: Tensor, motion: Motion | None
    ) -> tuple[Tensor, _Spatial | None]:
        """Choose N_s patches of each frame, prompt those, bias attention (equation 6): h^s (B,T,P,D)."""
        config: StopConfig = modules.config
        if config.spatial == "off":
            return h, None
        if motion is None:  # static
            zero = h.new_zeros(h.shape[:3], dtype=torch.float32)
            return h + modules.patch_offsets.to(h.dtype), _Spatial(zero, zero, zero)
        x = F.layer_norm(h, h.shape[-1:])
        scores = self.region_scores(modules, index, c, h, x, motion)
        chosen = highest(scores, self.regions)  # (B,T,N_s)
        mask = torch.zeros_like(scores).scatter(
            -1, chosen, 1.0 + (scores - scores.detach()).gather(-1, chosen)
        )
        prompt = bounded(modules.spatial_prompter(x, chosen), token_size(h), config.bound).to(h.dtype)
        prompt = mask.gather(-1, chosen).unsqueeze(-1).to(h.dtype) * prompt  # straight-through
        rows = chosen + torch.arange(0, h[..., 0].numel(), h.shape[2], device=h.device).view(*h.shape[:2], 1)
        prompted = h.flatten(0, 2).index_add(0, rows.flatten(), prompt.flatten(0, 2)).view(h.shape)
        bias = self.prompts.gamma[number].float() * beside_best(scores)
        return prompted, _Spatial(mask, scores, bias)

    def _temporal(self, modules: Any, h: Tensor, spatial: _Spatial | None) -> _Temporal | None:
        """Count and make the prompts of each gap (equations 7 to 11).

        A count has no gradient, and a factor on a token is undone by the LayerNorm that reads it. So a
        prompt's weight is a multiplicity: a token that is there n times is one key with log n added to its
        logit. Prompt k of a gap counts clip(eta W^t - k, 0, 1) (1 + W^t) times: not at all from N^t on.
        """
        config: StopConfig = modules.config
        gaps = h.shape[1] - 1
        if config.temporal == "off" or gaps == 0:
            return None
        if config.temporal == "static":
            tokens = modules.gap_tokens.to(h.dtype).repeat(gaps, 1).expand(h.shape[0], -1, -1)
            full = torch.full((h.shape[0], gaps), config.eta, device=h.device)
            once = torch.zeros(tokens.shape[:2], device=h.device)
            return _Temporal(tokens, once, torch.ones_like(full, dtype=torch.float32), full)
        change = frame_changes(h)  # D (B,G,P,D)
        v = modules.frame_variation(change).float()  # (B,G,P)
        mask = spatial.mask if spatial is not None else None
        mask = mask if mask is not None else v.new_zeros(h.shape[:3])
        inside = torch.maximum(mask[:, :-1], mask[:, 1:])
        variation = scale_over_gaps(((1 + config.beta * inside) * v).mean(-1))  # W^t (B,G)
        weight = log_multiplicity(variation, config.eta).flatten(1)
        counts = torch.ceil(config.eta * variation.detach()).long()  # N^t (B,G)
        return _Temporal(modules.temporal_prompter(change).flatten(1, 2), weight, variation, counts)

    def _block(
        self,
        index: int,
        c: Tensor,
        h: Tensor,
        spatial: _Spatial | None,
        temporal: _Temporal | None,
        *,
        class_only: bool,
    ) -> Tensor:
        """Run one frozen block on [c, all patches, prompts] -> (B,K+T*P,D); outputs of prompts are dropped.

        Attention does not know the order of its keys, so prompts at the end of the sequence are
        the same as prompts between the frames. The class token stands for that of each frame: it counts
        T times, so that a still video is embedded as its photo. ``class_only`` returns (B,1,D).
        """
        b, t, p, _ = h.shape
        parts = [c, h.flatten(1, 2)]
        once = torch.zeros(b, t * p, device=h.device)
        bias = [
            once.new_full((b, c.shape[1]), math.log(t)),
            once if spatial is None else spatial.bias.flatten(1),
        ]
        if temporal is not None:
            parts.append(temporal.tokens.to(h.dtype))
            bias.append(temporal.weight)
        x, keys = torch.cat(parts, 1), torch.cat(bias, 1)  # (B,K+T*P+G*eta,D), (B,K+T*P+G*eta)
        layout = Layout(c.shape[1], t, p, joint=self.config is None or self.config.attention == "joint")
        return self.tower.run_block(index, x, keys, 1 if class_only else c.shape[1] + t * p, layout)


def _encode_frames(model: Stop, pixels: Tensor, *, look: bool) -> _Pass:
    """Embed each frame of (B,T,3,S,S) alone and average; a focus draws attention to what moves."""
    b, t = pixels.shape[:2]
    frames, motion, drawn, attention = pixels.flatten(0, 1), None, None, None
    if model.focus == 0 and not (look and isinstance(model.backbone.tower, Tower)):
        image = model.backbone.clip.encode_image(frames)
    else:
        tower = model.tower
        c, h = tower.embed(frames)
        x = torch.cat([c.expand(b * t, -1, -1).to(h.dtype), h], 1)
        bias, k = x.new_zeros(x.shape[:2], dtype=torch.float32), tower.prefix  # (B*T,K+P)
        if model.focus:
            motion = _motion(tower, pixels)
            scores = motion.strength()
            drawn = _Spatial(None, scores, model.focus * beside_best(scores))
            bias[:, k:] = drawn.bias.flatten(0, 1)
        last, layout = tower.depth - 1, Layout(k, 1, h.shape[1])
        for index in range(last):
            x = tower.run_block(index, x, bias, x.shape[1], layout)
        if look:
            attention = tower.look(last, x[:, :k], x[:, None, k:], bias[:, None, k:]).view(b, t, -1)
        image = tower.read(tower.run_block(last, x, bias, 1 if tower.class_only else x.shape[1], layout), 1)
    image = F.normalize(image.float(), dim=-1).view(b, t, -1)
    video = F.normalize(image.mean(1), dim=-1)
    return _Pass(video, [(drawn, None)] if drawn is not None else [], motion, attention)


def _motion(tower: Tower, pixels: Tensor) -> Motion:
    """Find what moves, in the first block's own normalised tokens."""

    def tokens_of(pictures: Tensor) -> Tensor:
        return tower.normalize(tower.embed(pictures.to(pixels.dtype))[1])

    with torch.autocast(pixels.device.type, enabled=False):
        return find_motion(pixels, tower.grid, tokens_of)


def beside_best(scores: Tensor) -> Tensor:
    """Return how far each score of the last axis is from the highest, at most 0."""
    return scores - scores.amax(-1, keepdim=True)


def log_multiplicity(variation: Tensor, eta: int) -> Tensor:
    """Return the log of how often each of eta prompts counts in each gap: W^t (B,G) -> (B,G,eta)."""
    w = variation.unsqueeze(-1)
    count = (eta * w - torch.arange(eta, device=w.device)).clamp(0, 1) * (1 + w)
    return torch.where(count > 0, count.clamp_min(1e-6).log(), torch.full_like(count, NEVER))


def highest(scores: Tensor, count: int) -> Tensor:
    """Return where the ``count`` highest of the last axis are; of equals, the first."""
    return scores.detach().sort(dim=-1, descending=True, stable=True).indices[..., :count]


def token_size(h: Tensor) -> Tensor:
    """Return the root mean square of a video's tokens (B,T,P,D): (B,1,1,1) in float32, without a gradient."""
    norm = torch.linalg.vector_norm(h.detach(), dim=(1, 2, 3), keepdim=True, dtype=torch.float32)
    out: Tensor = norm / math.sqrt(h[0].numel())
    return out


def frame_changes(h: Tensor) -> Tensor:
    """Return D_i = h_{i+1} - h_i in units of the video's token size: (B,T,P,D) -> (B,T-1,P,D).

    Patches that change by less than arithmetic noise count as unchanged.
    """
    change = (h[:, 1:] - h[:, :-1]) / token_size(h).to(h.dtype)
    noise = max(NO_CHANGE, 2 * torch.finfo(h.dtype).eps)
    moved = change.detach().abs().amax(-1, keepdim=True) > noise
    return change * moved


def scale_over_gaps(v: Tensor) -> Tensor:
    """Scale (B,G), not negative, by the largest of each video: to [0,1], and 0 where nothing changes.

    Not from the smallest to the largest: in a steady motion that would make prompts of noise.
    """
    return v / v.amax(-1, keepdim=True).clamp_min(1e-12)


def _stack(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors) if tensors else torch.zeros(0)
