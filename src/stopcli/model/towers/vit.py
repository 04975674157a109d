"""open_clip's own ViT, pooled by its class token, by a mean or by attention (CLIP, CLIPA, CoCa)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stopcli.model.towers.standard import embed_patches, project
from stopcli.model.towers.tower import Layout, Tower, attend, softmax_over_patches


class OpenClipViT(Tower):
    """An open_clip ``VisionTransformer``, or `stopcli.model.towers.standard.Vision`."""

    kind = "open_clip ViT"
    prefix = 1

    def __init__(self, visual: Any) -> None:
        self.visual = visual
        self.blocks = visual.transformer.resblocks
        self.width: int = visual.conv1.out_channels
        self.depth = len(self.blocks)
        self.grid: tuple[int, int] = tuple(visual.grid_size)
        self.class_only = visual.attn_pool is None and visual.pool_type == "tok"

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        visual = self.visual
        patches = embed_patches(visual.conv1, images)  # (N,P,D)
        place = visual.positional_embedding.to(patches.dtype)
        c = visual.class_embedding.to(patches.dtype) + place[0]
        return visual.ln_pre(c)[None], visual.ln_pre(patches + place[1:])

    def normalize(self, patches: Tensor) -> Tensor:
        out: Tensor = self.blocks[0].ln_1(patches)
        return out

    def look(self, index: int, c: Tensor, h: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `Tower.look`; in CLIPA the mean of all patches looks, for that is its readout.

        The key projection is moved onto the query, so its cost does not grow with the patches.
        """
        block = self.blocks[index]
        heads = block.attn.num_heads
        wq, wk, _ = block.attn.in_proj_weight.chunk(3)
        bq = block.attn.in_proj_bias.chunk(3)[0]
        c = h.mean((1, 2))[:, None] if self.visual.pool_type == "avg" else c
        q = rearrange(F.linear(block.ln_1(c), wq, bq), "b 1 (n d) -> b n d", n=heads)
        keys = rearrange(wk, "(n d) w -> n d w", n=heads).to(q.dtype)
        probe = torch.einsum("bnd,ndw->bnw", q, keys)  # (B,heads,D)
        logits = torch.einsum("btpw,bnw->btnp", block.ln_1(h), probe.to(h.dtype)) * q.shape[-1] ** -0.5
        return softmax_over_patches(logits, bias)

    def run_block(self, index: int, x: Tensor, bias: Tensor, wanted: int, layout: Layout) -> Tensor:
        block = self.blocks[index]
        attention: nn.MultiheadAttention = block.attn
        heads = attention.num_heads
        queries, others = project(attention, block.ln_1(x), wanted)
        q = rearrange(queries, "b s (n d) -> b n s d", n=heads)
        k, v = rearrange(others, "b s (two n d) -> two b n s d", two=2, n=heads)
        mixed = attend(q, k, v, bias, layout)  # (B,heads,wanted,d)
        y = x[:, :wanted] + block.ls_1(attention.out_proj(rearrange(mixed, "b n s d -> b s (n d)")))
        out: Tensor = y + block.ls_2(block.mlp(block.ln_2(y)))
        return out

    def read(self, x: Tensor, frames: int) -> Tensor:
        visual = self.visual
        if self.class_only:
            pooled = visual.ln_post(x[:, 0])
        else:
            if visual.attn_pool is not None:  # the class token stands for that of each frame
                x = torch.cat([x[:, :1].expand(-1, frames, -1), x[:, 1:]], 1)
            pooled = visual._pool(x)[0]
        out: Tensor = pooled @ visual.proj.to(pooled.dtype)
        return out
