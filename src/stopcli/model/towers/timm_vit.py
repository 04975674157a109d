"""timm's ViT (SigLIP, MobileCLIP-B, ViTamin) and its Eva (EVA, Perception Encoder), by their own blocks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stopcli.model.towers.tower import Layout, Tower, attend, softmax_over_patches

SDPA: Any = F.scaled_dot_product_attention


class BiasOnKeys(TorchFunctionMode):
    """Within, attention has a bias (B,S) on its keys, added as `attend` does it.

    timm's blocks take a mask too, but with one that has a gradient torch keeps all the logits: 20 GB to
    train on 12 frames of 576 patches.
    """

    def __init__(self, bias: Tensor, layout: Layout) -> None:
        super().__init__()
        self.bias, self.layout, self.calls = bias, layout, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not SDPA:
            return func(*args, **(kwargs or {}))
        self.calls += 1
        return attend(args[0], args[1], args[2], self.bias, self.layout)


class TimmViT(Tower):
    """timm's ``VisionTransformer`` in open_clip's ``TimmModel``."""

    kind = "timm ViT"

    def __init__(self, visual: Any) -> None:
        self.head, trunk = visual.head, visual.trunk
        self.trunk = trunk
        self.width: int = trunk.embed_dim
        self.depth = len(trunk.blocks)
        self.grid: tuple[int, int] = tuple(trunk.patch_embed.grid_size)
        self.prefix: int = trunk.num_prefix_tokens
        self.class_only = trunk.attn_pool is None and trunk.global_pool == "token"

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self.trunk
        x = trunk.norm_pre(self._placed(trunk.patch_embed(images)))
        return x[0, : self.prefix], x[:, self.prefix :]

    def _placed(self, patches: Tensor) -> Tensor:
        out: Tensor = self.trunk._pos_embed(patches)
        return out

    def normalize(self, patches: Tensor) -> Tensor:
        normed = _before_attention(self.trunk.blocks[0], patches)
        return F.layer_norm(patches, patches.shape[-1:]) if normed is patches else normed

    def look(self, index: int, c: Tensor, h: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `Tower.look`; without a class token, what attention pooling asks, or the mean of all patches."""
        trunk, frames = self.trunk, h.shape[1]
        if not self.prefix and trunk.attn_pool is not None:
            pool = trunk.attn_pool
            q = pool.q_norm(rearrange(pool.q(pool.latent[:, 0]), "1 (n d) -> 1 n d", n=pool.num_heads))
            keys = pool.kv(trunk.norm(h)).chunk(2, -1)[0]
            k = pool.k_norm(rearrange(keys, "b t p (n d) -> b t p n d", n=pool.num_heads))
            return softmax_over_patches(_logits(q.expand(len(h), -1, -1), k), bias)
        block = trunk.blocks[index]
        c = c if self.prefix else h.mean((1, 2))[:, None]
        q = _project(block.attn, 0, _before_attention(block, c))[:, 0]
        k = _project(block.attn, 1, _before_attention(block, h.flatten(1, 2)))
        if (turns := self._turns(frames, 0)) is not None:
            from timm.layers.pos_embed_sincos import apply_rot_embed_cat

            half = getattr(block.attn, "rotate_half", False)
            k = apply_rot_embed_cat(k.transpose(1, 2), turns, half=half).transpose(1, 2)
        k = rearrange(k, "b (t p) n d -> b t p n d", t=frames)
        return softmax_over_patches(_logits(q, k), bias)

    def _turns(self, frames: int, prompts: int) -> Tensor | None:  # noqa: ARG002
        """Return how queries and keys are turned to their places, if they are: (T*P+prompts,2d)."""
        return None

    def run_block(self, index: int, x: Tensor, bias: Tensor, wanted: int, layout: Layout) -> Tensor:
        turns = self._turns(layout.frames, x.shape[1] - self.prefix - layout.frames * layout.patches)
        with BiasOnKeys(bias, layout) as done:
            out: Tensor = self.trunk.blocks[index](x, **({} if turns is None else {"rope": turns}))
        if not done.calls:
            raise RuntimeError("timm's blocks must use torch's own attention; unset TIMM_FUSED_ATTN")
        return out[:, :wanted]

    def read(self, x: Tensor, frames: int) -> Tensor:
        trunk = self.trunk
        if self.prefix and trunk.attn_pool is not None:  # the class token stands for that of each frame
            x = torch.cat([x[:, :1].expand(-1, frames, -1), x[:, 1:]], 1)
        out: Tensor = self.head(trunk.forward_head(trunk.norm(x)))
        return out


class TimmEva(TimmViT):
    """timm's ``Eva``: places of patches are rotations, of each frame the same; prompts have no place."""

    kind = "timm Eva"

    def _placed(self, patches: Tensor) -> Tensor:
        out: Tensor = self.trunk._pos_embed(patches)[0]
        return out

    def _turns(self, frames: int, prompts: int) -> Tensor | None:
        """As `TimmViT._turns`: sines, then cosines; prompts are not turned."""
        rope = self.trunk.rope
        if rope is None:
            return None
        turns: Tensor = rope.get_embed() if hasattr(rope, "feat_shape") else rope.get_embed(shape=self.grid)
        turns = turns.repeat(frames, 1)
        still = turns.new_zeros(prompts, turns.shape[1])
        still[:, turns.shape[1] // 2 :] = 1.0
        return torch.cat([turns, still])


def _logits(q: Tensor, k: Tensor) -> Tensor:
    """Logits (B,T,heads,P) of a query (B,heads,d) and keys (B,T,P,heads,d)."""
    logits: Tensor = torch.einsum("bnd,btpnd->btnp", q.to(k.dtype), k) * q.shape[-1] ** -0.5
    return logits


def _before_attention(block: Any, x: Tensor) -> Tensor:
    """Normalise as a block does before attention; the largest EVA does it behind."""
    if type(block).__name__ == "EvaBlockPostNorm":
        return x
    out: Tensor = block.norm1(x)
    return out


def _project(attention: Any, part: int, x: Tensor) -> Tensor:
    """Return the queries (``part`` 0) or keys (1) of tokens (B,S,D): (B,S,heads,d)."""
    if attention.qkv is None:
        out = (attention.q_proj, attention.k_proj)[part](x)
    else:
        bias = attention.qkv.bias
        if bias is None and getattr(attention, "q_bias", None) is not None:
            bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        bias = bias if bias is None else bias.chunk(3)[part]
        out = F.linear(x, attention.qkv.weight.chunk(3)[part], bias)
    heads = rearrange(out, "b s (n d) -> b s n d", n=attention.num_heads)
    normed: Tensor = (attention.q_norm, attention.k_norm)[part](heads)
    return normed
