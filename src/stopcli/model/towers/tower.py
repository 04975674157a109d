"""What STOP asks of a vision tower: its tokens, its blocks one by one, where it looks, and its readout.

Letters: N images, B videos, T frames, P patches a frame, K class tokens (1 or 0), S tokens of a joint
sequence [class tokens, patches of all frames, prompts], D width, E embedding size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor


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
    def run_block(self, index: int, x: Tensor, bias: Tensor, wanted: int, frames: int) -> Tensor:
        """Run block ``index`` on a joint sequence (B,S,D), for its first ``wanted`` tokens only.

        All of x is attended to. ``bias`` (B,S) is added to the attention logits of each token as a key: log n
        makes it count as n tokens, a large negative number leaves it out.
        """

    @abstractmethod
    def read(self, x: Tensor, frames: int) -> Tensor:
        """Turn the last states (B,K+T*P,D), or (B,1,D) if `class_only`, into embeddings (B,E)."""


def softmax_over_patches(logits: Tensor, bias: Tensor | None) -> Tensor:
    """Attention within each frame (B,T,P) from logits (B,T,heads,P), with a bias (B,T,P) or none."""
    logits = logits.float() if bias is None else logits.float() + bias.unsqueeze(2)
    attention: Tensor = logits.softmax(-1).mean(2)
    return attention


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of q (B,heads,R,d) to k and v (B,heads,S,d), with a bias (B,S) on the keys or none.

    A mask would shut out the fast kernels of CUDA, and of the CPU where the bias has a gradient. There the
    bias is one more dimension, in which every query is 1. On the CPU without gradients a mask is faster.
    """
    if bias is None:
        return F.scaled_dot_product_attention(q, k, v)
    d, dtype = q.shape[-1], q.dtype
    if not bias.is_cuda and not bias.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None, None].to(dtype))
    more = 8 - d % 8  # the kernels want a multiple of eight
    one = F.pad(q.new_ones(1), (0, more - 1)).expand(*q.shape[:-1], more)
    extra = F.pad((bias * d**0.5).to(dtype)[:, None, :, None], (0, more - 1)).expand(*k.shape[:-1], more)
    longer = torch.cat([q, one], -1), torch.cat([k, extra], -1), F.pad(v, (0, more))
    return F.scaled_dot_product_attention(*longer, scale=d**-0.5)[..., :d]
