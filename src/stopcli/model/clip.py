"""The open_clip side: a frozen CLIP whose vision tower can be run block by block.

Letters: N images or texts, B videos, S tokens of a joint sequence, P patches, D width, E embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stopcli.errors import CheckpointError

# OpenAI's CLIP, as in open_clip.constants
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """How a tower wants its frames: side in pixels, mean and standard deviation of RGB in [0,1]."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Backbone(nn.Module):
    """An open_clip CLIP with a ViT of the original kind, frozen; CheckpointError for any other tower.

    ``preprocess`` may hold ``mean`` and ``std``, where they are not CLIP's own.
    """

    def __init__(self, clip: Any, architecture: str, preprocess: dict[str, Any]) -> None:
        super().__init__()
        visual = clip.visual
        needed = ("class_embedding", "conv1", "transformer", "ln_post", "proj", "grid_size")
        is_vit = all(hasattr(visual, name) for name in needed)
        if not is_vit or getattr(visual, "attn_pool", None) is not None or visual.pool_type != "tok":
            raise CheckpointError(
                f"{architecture}: its vision tower is a {type(visual).__name__} without a class token "
                "of its own; STOP needs an open_clip ViT such as ViT-B-32"
            )
        attention = visual.transformer.resblocks[0].attn
        if not isinstance(attention, nn.MultiheadAttention):
            raise CheckpointError(f"{architecture}: attention of kind {type(attention).__name__}")
        height, width = visual.image_size
        if height != width:
            raise CheckpointError(f"{architecture}: frames of {width}x{height}; only squares are supported")
        self.architecture = architecture
        self.clip = clip.eval().requires_grad_(False)
        self.blocks = visual.transformer.resblocks
        self.width: int = visual.conv1.out_channels
        self.grid: tuple[int, int] = tuple(visual.grid_size)
        self.embed_dim: int = visual.output_dim
        mean, std = preprocess.get("mean") or _MEAN, preprocess.get("std") or _STD
        self.preprocess = Preprocess(int(height), tuple(mean), tuple(std))

    def fill_buffers(self) -> None:
        """Compute what is in no file, where the model was built empty: the text tower's causal mask."""
        for name, buffer in list(self.clip.named_buffers()):
            if not buffer.is_meta:
                continue
            owner, _, last = name.rpartition(".")
            if last != "attn_mask":
                raise CheckpointError(f"{self.architecture}: nothing says how to fill {name}")
            mask = torch.full(buffer.shape, float("-inf"), dtype=buffer.dtype).triu_(1)
            self.clip.get_submodule(owner).register_buffer(last, mask, persistent=False)

    @property
    def logit_scale(self) -> Tensor:
        """CLIP's frozen temperature, as a factor (near 100)."""
        out: Tensor = self.clip.logit_scale.exp()
        return out

    def embed_patches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn (N,3,S,S) into CLIP's first tokens: the class token (D) and patches (N,P,D)."""
        visual = self.clip.visual
        patches = visual.conv1(images).flatten(2).transpose(1, 2)  # (N,P,D)
        place = visual.positional_embedding.to(patches.dtype)
        c = visual.class_embedding.to(patches.dtype) + place[0]
        return visual.ln_pre(c), visual.ln_pre(patches + place[1:])

    def class_attention(self, index: int, c: Tensor, h: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return where the class token (B,1,D) looks in each frame (B,T,P,D): block ``index``'s A (B,T,P).

        softmax over the patches of a frame of q(c).k(h)/sqrt(d) plus ``bias`` (B,T,P), averaged over the
        heads. The key projection is moved onto the query, so its cost does not grow with the patches.
        """
        block = self.blocks[index]
        heads = block.attn.num_heads
        wq, wk, _ = block.attn.in_proj_weight.chunk(3)
        bq = block.attn.in_proj_bias.chunk(3)[0]
        q = rearrange(F.linear(block.ln_1(c), wq, bq), "b 1 (n d) -> b n d", n=heads)
        keys = rearrange(wk, "(n d) w -> n d w", n=heads).to(q.dtype)
        probe = torch.einsum("bnd,ndw->bnw", q, keys)  # (B,heads,D)
        logits = torch.einsum("btpw,bnw->btnp", block.ln_1(h), probe.to(h.dtype)) * q.shape[-1] ** -0.5
        logits = logits.float() if bias is None else logits.float() + bias.unsqueeze(2)
        attention: Tensor = logits.softmax(-1).mean(2)
        return attention

    def run_block(self, index: int, x: Tensor, bias: Tensor | None, wanted: int) -> Tensor:
        """Run block ``index`` on a joint sequence (B,S,D), for its first ``wanted`` tokens only.

        All of x is attended to. ``bias`` (B,S) is added to the attention logits of each token as a key: log n
        makes it count as n tokens, a large negative number leaves it out.
        """
        block = self.blocks[index]
        attention = block.attn
        heads = attention.num_heads
        normed = block.ln_1(x)
        wq, wkv = attention.in_proj_weight.split([self.width, 2 * self.width])
        bq, bkv = attention.in_proj_bias.split([self.width, 2 * self.width])
        q = rearrange(F.linear(normed[:, :wanted], wq, bq), "b s (n d) -> b n s d", n=heads)
        k, v = rearrange(F.linear(normed, wkv, bkv), "b s (two n d) -> two b n s d", two=2, n=heads)
        mixed = attend(q, k, v, bias)  # (B,heads,wanted,d)
        y = x[:, :wanted] + block.ls_1(attention.out_proj(rearrange(mixed, "b n s d -> b s (n d)")))
        out: Tensor = y + block.ls_2(block.mlp(block.ln_2(y)))
        return out

    def project(self, c: Tensor) -> Tensor:
        """Turn the class token's last state (B,D) into an embedding (B,E), not normalised."""
        visual = self.clip.visual
        out: Tensor = visual.ln_post(c) @ visual.proj.to(c.dtype)
        return out


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
