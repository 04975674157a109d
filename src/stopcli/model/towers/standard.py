"""CLIP as it was published (arXiv 2103.00020): a ViT with a class token, a text tower that reads forwards.

The parameters have open_clip's names, the architectures are its JSON files, and its outputs are matched to
rounding; other towers are left to it. Letters: N images or texts, P patches, S tokens, D width, E embedding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def embed_patches(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """Turn images (N,3,S,S) into patches (N,P,D) by a convolution whose stride is its kernel.

    On CUDA as a matrix product: with so few channels cuDNN ran at 28 of an H100's 774 TFLOP/s (bf16).
    """
    if images.is_cuda:
        return patches_by_product(conv, images)
    patches: Tensor = conv(images)
    return patches.flatten(2).transpose(1, 2)


def patches_by_product(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """As `embed_patches`, as one matrix product; pixels that are left over at the edge are not read."""
    (h, w), (height, width) = conv.kernel_size, images.shape[2:]
    whole = images[:, :, : height - height % h, : width - width % w]
    rows = rearrange(whole, "n c (i h) (j w) -> n (i j) (c h w)", h=h, w=w)
    return F.linear(rows, conv.weight.flatten(1), conv.bias)


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.MultiheadAttention):
    """open_clip's parameters of attention; `project` and `Block` use them."""

    layers: (
        Any  # where there are such: for queries, and for keys and values, in the place of these parameters
    )


def project(attention: nn.MultiheadAttention, x: Tensor, wanted: int | None) -> tuple[Tensor, Tensor]:
    """Return the queries (N,wanted,D) of the first tokens, and all keys and values (N,S,2D)."""
    if (layers := getattr(attention, "layers", None)) is not None:
        return layers[0](x[:, :wanted]), layers[1](x)
    width, weight, bias = x.shape[-1], attention.in_proj_weight, attention.in_proj_bias
    q = F.linear(x[:, :wanted].contiguous(), weight[:width], bias[:width])
    return q, F.linear(x, weight[width:], bias[width:])


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, activation: type[nn.Module]) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", activation())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))
        self.ls_2 = nn.Identity()

    def forward(self, x: Tensor, *, causal: bool = False, wanted: int | None = None) -> Tensor:
        """(N,S,D) -> (N,S,D); ``causal`` lets a token see none behind it; ``wanted`` makes the first only."""
        q, kv = project(self.attn, self.ln_1(x), wanted)
        heads = self.attn.num_heads
        q, k, v = (y.view(*y.shape[:2], heads, -1).transpose(1, 2) for y in (q, *kv.chunk(2, -1)))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x[:, :wanted] + self.attn.out_proj(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """A stack of blocks."""

    def __init__(self, layers: int, *block: Any) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(*block) for _ in range(layers))


class Vision(nn.Module):
    """The vision tower."""

    pool_type, attn_pool = "tok", None

    def __init__(self, settings: dict[str, Any], embed_dim: int, activation: type[nn.Module]) -> None:
        super().__init__()
        width, patch = settings.get("width", 768), settings.get("patch_size", 16)
        side = settings.get("image_size", 224)
        block = (width, width // settings.get("head_width", 64), settings.get("mlp_ratio", 4.0), activation)
        self.image_size = (side, side)
        self.grid_size = (side // patch, side // patch)
        self.output_dim = embed_dim
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(self.grid_size[0] ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(settings.get("layers", 12), *block)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, embed_dim))


class StandardCLIP(nn.Module):
    """Both towers, without weights; an architecture that cannot be is a ValueError."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        activation = QuickGELU if settings.get("quick_gelu") else nn.GELU
        text, embed_dim = settings["text_cfg"], settings["embed_dim"]
        self.visual = Vision(settings["vision_cfg"], embed_dim, activation)
        width = text["width"]
        self.transformer = Transformer(text["layers"], width, text["heads"], 4.0, activation)
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.empty(text["context_length"], width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed images (N,3,S,S) -> (N,E), not normalised."""
        tower = self.visual
        patches = embed_patches(tower.conv1, images)  # (N,P,D)
        first = tower.class_embedding.to(patches.dtype).expand(len(images), 1, -1)
        x = tower.ln_pre(torch.cat([first, patches], 1) + tower.positional_embedding.to(patches.dtype))
        *blocks, last = tower.transformer.resblocks
        for block in blocks:
            x = block(x)
        x = last(x, wanted=1)  # no more than the class token is read
        out: Tensor = tower.ln_post(x[:, 0]) @ tower.proj
        return out

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embed token ids (N,S) -> (N,E), not normalised; what is behind an end token costs nothing."""
        ends = tokens.argmax(-1)  # the end token has the highest number
        tokens = tokens[:, : int(ends.max()) + 1]
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        for block in self.transformer.resblocks:
            x = block(x, causal=True)
        ended = self.ln_final(x)[torch.arange(len(x), device=x.device), ends]
        out: Tensor = ended @ self.text_projection
        return out
