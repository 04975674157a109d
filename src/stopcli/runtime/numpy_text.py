"""CLIP's text tower in NumPy: what a new query costs when nothing else must be loaded.

Importing torch and open_clip takes ten times as long as embedding a sentence does. This serves the
towers of plain CLIP (arXiv 2103.00020) from a safetensors file; any other is left to torch.
Letters: S tokens, D width, H heads, E embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stopcli.model.files import ModelFiles
from stopcli.model.towers.architectures import has_standard_text, read_architecture
from stopcli.model.towers.tokens import tokenizer

if TYPE_CHECKING:
    Array = NDArray[np.float32]


def embed_texts(files: ModelFiles, texts: Sequence[str]) -> Array | None:
    """Embed texts -> (N,E) of unit length, in fp32; None where the text tower is not CLIP's own kind."""
    settings = _settings(files)
    if settings is None or files.backbone.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError

    try:
        tower = _Tower(files.backbone, settings)
        tokens = tokenizer(int(settings["text_cfg"]["context_length"]))
        vectors = np.stack([tower.embed(tokens(text)) for text in texts])
        return vectors if np.isfinite(vectors).all() else None
    except (SafetensorError, LookupError, TypeError, ValueError, OSError):  # torch's way says what is wrong
        return None


def read_length(files: ModelFiles, text: str) -> int:
    """Return how many tokens a text has; 0 if the tower is not of the original kind."""
    if _settings(files) is None:
        return 0
    try:
        return len(tokenizer(1 << 20)(text))
    except OSError:
        return 0


def context_length(files: ModelFiles) -> int:
    """Return how many tokens the text tower reads."""
    settings = _settings(files) or files.config.backbone_config or {}
    return int(settings.get("text_cfg", {}).get("context_length", 77))


def _settings(files: ModelFiles) -> dict[str, Any] | None:
    settings = files.config.backbone_config or read_architecture(files.config.architecture)
    return settings if settings is not None and has_standard_text(settings) else None


class _Tower:
    """The text tower's weights; the vision tower's stay on the disk."""

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        from safetensors import safe_open

        with safe_open(file, "np") as tensors:
            self._weights: dict[str, Array] = {
                name: tensors.get_tensor(name).astype(np.float32)
                for name in tensors.keys()  # noqa: SIM118
                if name.startswith(("transformer.", "ln_final.", "positional_", "text_projection"))
            }
        self._file = file
        self._heads = int(settings["text_cfg"]["heads"])
        self._layers = int(settings["text_cfg"]["layers"])
        self._activate = _quick_gelu if settings.get("quick_gelu") else _gelu

    def embed(self, tokens: Sequence[int]) -> Array:
        """Return the embedding (E,) of one text: its (first) end token's state, projected."""
        from safetensors import safe_open

        with safe_open(self._file, "np") as tensors:
            table = tensors.get_slice("token_embedding.weight")
            x = np.concatenate([table[i : i + 1] for i in tokens]).astype(np.float32)  # (S,D)
        x += self._weights["positional_embedding"][: len(tokens)]
        for i in range(self._layers):
            x = self._block(f"transformer.resblocks.{i}.", x)
        out: Array = self._norm("ln_final.", x[int(np.argmax(tokens))]) @ self._weights["text_projection"]
        return out / np.linalg.norm(out)

    def _block(self, name: str, x: Array) -> Array:
        s, d = x.shape
        normed = self._linear(f"{name}attn.in_proj_", self._norm(f"{name}ln_1.", x))
        q, k, v = normed.reshape(s, 3, self._heads, -1).transpose(1, 2, 0, 3)  # each (H,S,D/H)
        logits = q @ k.swapaxes(1, 2) / math.sqrt(d / self._heads)
        logits[:, np.triu(np.ones((s, s), bool), 1)] = -np.inf  # a token sees those before it
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ v).transpose(1, 0, 2).reshape(s, d)
        x = x + self._linear(f"{name}attn.out_proj.", mixed)
        hidden = self._activate(self._linear(f"{name}mlp.c_fc.", self._norm(f"{name}ln_2.", x)))
        return x + self._linear(f"{name}mlp.c_proj.", hidden)

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self._weights[f"{name}weight"].T + self._weights[f"{name}bias"]

    def _norm(self, name: str, x: Array) -> Array:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)
        return x * self._weights[f"{name}weight"] + self._weights[f"{name}bias"]


def _quick_gelu(x: Array) -> Array:
    out: Array = x / (1 + np.exp(-1.702 * x))
    return out


_erf: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float32])


def _gelu(x: Array) -> Array:
    out: Array = 0.5 * x * (1 + _erf(x * math.sqrt(0.5)))
    return out
