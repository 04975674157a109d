"""CLIP's text tower in NumPy: what a new query costs when nothing else must be loaded.

Importing torch and open_clip takes ten times as long as embedding a sentence does. This serves the
towers of open_clip's own kind (CLIP, SigLIP, MobileCLIP, Perception Encoder) from a safetensors file; any
other is left to torch. Letters: S tokens, D width, H heads, E embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import ModelError
from stopcli.model.files import ModelFiles

if TYPE_CHECKING:
    Array = NDArray[np.float32]

KNOWN = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "hf_tokenizer_name"}
KNOWN |= {
    "tokenizer_kwargs",
    "no_causal_mask",
    "proj_bias",
    "pool_type",
    "eos_id",
    "norm_kwargs",
    "act_kwargs",
}
POOLS = ("argmax", "eos", "last")


def embed_texts(files: ModelFiles, texts: Sequence[str]) -> Array | None:
    """Embed texts -> (N,E) of unit length, in fp32; None where the text tower is of another kind."""
    settings = files.settings or {}
    text = settings.get("text_cfg", {})
    known = set(text) <= KNOWN and text.get("pool_type", "argmax") in POOLS
    if not text or not known or files.backbone.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError

    tokens = files.tokenizer()
    try:
        tower = _Tower(files.backbone, settings)
        vectors = np.stack([tower.embed(tokens(text)) for text in texts])
        return vectors if np.isfinite(vectors).all() else None
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, OSError):
        return None  # torch's way says what is wrong


def unread_words(files: ModelFiles, text: str) -> list[str]:
    """Return the words at a text's end that are more than the text tower reads; none if nobody can tell."""
    if len(text.encode(errors="replace")) + 2 <= context_length(files):  # a token is a byte or more
        return []
    try:
        tokens = files.tokenizer()
    except (ModelError, OSError):
        return []
    if tokens.count(text) <= tokens.length:
        return []
    words = text.split()
    read, cut = 0, len(words)
    while cut - read > 1:  # so many words are read in full, and so many are not
        middle = (read + cut) // 2
        if tokens.count(" ".join(words[:middle])) <= tokens.length:
            read = middle
        else:
            cut = middle
    return words[read:]


def context_length(files: ModelFiles) -> int:
    """Return how many tokens the text tower reads."""
    return int((files.settings or {}).get("text_cfg", {}).get("context_length", 77))


class _Tower:
    """The text tower's weights; the vision tower's stay on the disk."""

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        from safetensors import safe_open

        text = settings["text_cfg"]
        own = ("transformer.", "ln_final.", "positional_", "text_projection")
        with safe_open(file, "np") as tensors:
            names = set(tensors.keys())
            self._prefix = "text." if "text.positional_embedding" in names else ""
            names = {n for n in names if n.startswith(tuple(self._prefix + part for part in own))}
            if sum(math.prod(tensors.get_slice(n).get_shape()) for n in names) > _most_numbers(settings):
                raise ValueError("larger than its settings say")
            self._weights: dict[str, Array] = {
                name.removeprefix(self._prefix): tensors.get_tensor(name).astype(np.float32, copy=False)
                for name in names
            }
        self._file = file
        self._heads, self._layers = int(text["heads"]), int(text["layers"])
        self._length = int(text["context_length"])
        self._causal = not text.get("no_causal_mask", False)
        self._pool, self._end = text.get("pool_type", "argmax"), int(text.get("eos_id", 2))
        self._eps = float(text.get("norm_kwargs", {}).get("eps", 1e-5))
        tanh = text.get("act_kwargs", {}).get("approximate") == "tanh"
        self._activate = _quick_gelu if settings.get("quick_gelu") else _tanh_gelu if tanh else _gelu

    def embed(self, tokens: Sequence[int]) -> Array:
        """Return the embedding (E,) of one text: the state of the token that the tower pools, projected."""
        from safetensors import safe_open

        if not self._causal or self._pool == "last":  # what stands behind a text makes a difference
            tokens = [*tokens, *[0] * (self._length - len(tokens))]
        with safe_open(self._file, "np") as tensors:
            table = tensors.get_slice(f"{self._prefix}token_embedding.weight")
            rows = {i: table[i : i + 1] for i in set(tokens)}
        x = np.concatenate([rows[i] for i in tokens]).astype(np.float32)  # (S,D)
        x += self._weights["positional_embedding"][: len(tokens)]
        for i in range(self._layers):
            x = self._block(f"transformer.resblocks.{i}.", x)
        at = {"argmax": int(np.argmax(tokens)), "last": -1}.get(self._pool, -1)
        if self._pool == "eos":
            at = int(np.argmax(np.array(tokens) == self._end))
        pooled = self._norm("ln_final.", x[at])
        if "text_projection" in self._weights:
            out: Array = pooled @ self._weights["text_projection"]
        else:
            out = self._linear("text_projection.", pooled)
        return out / np.linalg.norm(out)

    def _block(self, name: str, x: Array) -> Array:
        s, d = x.shape
        normed = self._linear(f"{name}attn.in_proj_", self._norm(f"{name}ln_1.", x))
        q, k, v = normed.reshape(s, 3, self._heads, -1).transpose(1, 2, 0, 3)  # each (H,S,D/H)
        logits = q @ k.swapaxes(1, 2) / math.sqrt(d / self._heads)
        if self._causal:
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
        x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + self._eps)
        return x * self._weights[f"{name}weight"] + self._weights[f"{name}bias"]


def _most_numbers(settings: dict[str, Any]) -> float:
    """Return how many numbers a text tower may have: half as many again as its settings need."""
    text, embed = settings["text_cfg"], int(settings["embed_dim"])
    width = int(text["width"])
    block = width * width * (4 + 2 * float(text.get("mlp_ratio", 4))) + 13 * width
    return 1.5 * (int(text["layers"]) * block + width * (int(text["context_length"]) + embed + 2) + embed)


def _quick_gelu(x: Array) -> Array:
    out: Array = x / (1 + np.exp(-1.702 * x))
    return out


def _gelu(x: Array) -> Array:
    """X times the normal distribution; its erf by Abramowitz and Stegun 7.1.26, to 1.5e-7."""
    z = np.abs(x) * math.sqrt(0.5)
    t = 1 / (1 + 0.3275911 * z)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    tail = 0.5 * series * np.exp(-z * z)  # the share beyond |x|
    out: Array = x * np.where(x > 0, 1 - tail, tail)
    return out


def _tanh_gelu(x: Array) -> Array:
    # x**3 would be 25 times as slow
    out: Array = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return out
