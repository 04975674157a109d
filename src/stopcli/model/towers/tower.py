"""What STOP asks of a vision tower: its tokens, its blocks one by one, where it looks, and its readout.

Letters: N images, B videos, T frames, P patches a frame, K class tokens (1 or 0), S tokens of a joint
sequence [class tokens, patches of all frames, prompts], D width, E embedding size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


class Layout(NamedTuple):
    """Where the tokens of a joint sequence are: [class tokens, patches of all frames, prompts]."""

    prefix: int  # K
    frames: int  # T
    patches: int  # P
    joint: bool = True  # patches attend to all frames, or to their own only


class Tower(ABC):
    """A ViT, run block by block on all frames of a video at once.

    On one frame without prompts, all of its methods together are the tower's own forward.
    """

    kind: ClassVar[str]  # for people
    width: int
    depth: int  # blocks
    grid: tuple[int, int]  # patches a column and a row
    prefix: int  # K
    class_only: bool  # the readout looks at nothing but the class token

    @abstractmethod
    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn (N,3,S,S) into the first tokens: class tokens (K,D), alike for all images; patches (N,P,D)."""

    @abstractmethod
    def normalize(self, patches: Tensor) -> Tensor:
        """Normalise (N,P,D) as the first block does."""

    @abstractmethod
    def look(self, index: int, c: Tensor, h: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return where the tower looks in each frame (B,T,P,D), in block ``index``: A (B,T,P).

        The class token's (B,K,D) attention to the patches of a frame, plus ``bias`` (B,T,P) on its logits,
        averaged over the heads. Where the readout does without a class token, what it pools with looks.
        """

    @abstractmethod
    def run_block(self, index: int, x: Tensor, bias: Tensor, wanted: int, layout: Layout) -> Tensor:
        """Run block ``index`` on a joint sequence (B,S,D), for its first ``wanted`` tokens only.

        All of x is attended to. ``bias`` (B,S) is added to the attention logits of each token as a key: log n
        makes it count as n tokens, a large negative number leaves it out. See `attend` for ``layout``.
        """

    @abstractmethod
    def read(self, x: Tensor, frames: int) -> Tensor:
        """Turn the last states (B,K+T*P,D), or (B,1,D) if `class_only`, into embeddings (B,E)."""


def softmax_over_patches(logits: Tensor, bias: Tensor | None) -> Tensor:
    """Attention within each frame (B,T,P) from logits (B,T,heads,P), with a bias (B,T,P) or none."""
    logits = logits.float() if bias is None else logits.float() + bias.unsqueeze(2)
    attention: Tensor = logits.softmax(-1).mean(2)
    return attention


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, layout: Layout | None = None) -> Tensor:
    """Attention of q (B,heads,R,d), the first R tokens, to all k and v (B,heads,S,d): (B,heads,R,d).

    ``bias`` (B,S) is added to the logits of the keys. Where the layout is not joint, a patch attends to the
    class tokens, to its own frame and to the prompts. Its own frame then stands for all T of them, so that
    nothing changes where all are alike: class tokens and prompts count 1/T. Outputs of prompts are zeros.
    """
    if layout is None or layout.joint or q.shape[2] == layout.prefix:
        return _attend(q, k, v, bias)
    prefix, frames, patches, _ = layout
    rest = k.shape[2] - prefix - frames * patches

    def of_frames(x: Tensor, dim: int) -> Tensor:
        """Give each frame its own keys: (B,...,S,...) -> (B*T,...,K+P+rest,...)."""
        c, h, prompts = torch.split(x, [prefix, frames * patches, rest], dim)
        h = torch.stack(h.chunk(frames, dim), 1).flatten(0, 1)
        return torch.cat([c.repeat_interleave(frames, 0), h, prompts.repeat_interleave(frames, 0)], dim)

    weight = torch.full((k.shape[2],), -math.log(frames), device=k.device)
    weight[prefix : prefix + frames * patches] = 0.0
    own = rearrange(q[:, :, prefix : prefix + frames * patches], "b n (t p) d -> (b t) n p d", t=frames)
    mixed = _attend(own, of_frames(k, 2), of_frames(v, 2), of_frames(bias + weight, 1))
    parts = [rearrange(mixed, "(b t) n p d -> b n (t p) d", t=frames)]
    if prefix:
        parts.insert(0, _attend(q[:, :, :prefix], k, v, bias))
    return F.pad(torch.cat(parts, 2), (0, 0, 0, q.shape[2] - prefix - frames * patches))


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention of q (B,heads,R,d) to k and v (B,heads,S,d), with a bias (B,S) on the keys.

    A mask would shut out the fast kernels of CUDA, and of the CPU where the bias has a gradient. There the
    bias is one more dimension, in which every query is 1. On the CPU without gradients a mask is faster; for
    a single query, no kernel is.
    """
    if q.shape[2] == 1 and not q.is_cuda:
        logits = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5 + bias[:, None, None]
        out: Tensor = logits.softmax(-1).to(v.dtype) @ v
        return out
    d, dtype = q.shape[-1], q.dtype
    if not bias.is_cuda and not bias.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None, None].to(dtype))
    more = 8 - d % 8  # the kernels want a multiple of eight
    one = F.pad(q.new_ones(1), (0, more - 1)).expand(*q.shape[:-1], more)
    extra = F.pad((bias * d**0.5).to(dtype)[:, None, :, None], (0, more - 1)).expand(*k.shape[:-1], more)
    longer = torch.cat([q, one], -1), torch.cat([k, extra], -1), F.pad(v, (0, more))
    return F.scaled_dot_product_attention(*longer, scale=d**-0.5)[..., :d]
