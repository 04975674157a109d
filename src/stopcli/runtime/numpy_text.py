"""CLIP's text tower in NumPy: what a new query costs when nothing else must be loaded.

Importing torch and open_clip takes ten times as long as embedding a sentence does. This serves the
towers of plain CLIP (arXiv 2103.00020) from a safetensors file; any other is left to torch.
Tokens as CLIP's byte pair encoding makes them, with open_clip's vocabulary.
Letters: S tokens, D width, H heads, E embedding.
"""

from __future__ import annotations

import gzip
import html
import json
import math
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stopcli.model.files import ModelFiles

if TYPE_CHECKING:
    Array = NDArray[np.float32]

TOWER = {"context_length", "vocab_size", "width", "heads", "layers"}
CLIP = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
MERGES = 49152 - 256 - 2  # of the vocabulary file, as many as CLIP uses
SPECIAL = ("<start_of_text>", "<end_of_text>")
WORDS = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def embed_texts(files: ModelFiles, texts: Sequence[str]) -> Array | None:
    """Embed texts -> (N,E) of unit length, in fp32; None where the text tower is not CLIP's own kind."""
    settings = _settings(files)
    if settings is None or files.backbone.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError

    try:
        tower = _Tower(files.backbone, settings)
        tokens = _Tokenizer(int(settings["text_cfg"]["context_length"]))
        return np.stack([tower.embed(tokens(text)) for text in texts])
    except (SafetensorError, LookupError, TypeError, ValueError, OSError):  # torch's way says what is wrong
        return None


def read_length(files: ModelFiles, text: str) -> int:
    """Return how many tokens a text is for the tower, or 0 where that cannot be told without loading it."""
    if _settings(files) is None:
        return 0
    try:
        return len(_Tokenizer(1 << 20)(text))
    except OSError:
        return 0


def context_length(files: ModelFiles) -> int:
    """Return how many tokens the text tower reads."""
    settings = _settings(files) or files.config.backbone_config or {}
    return int(settings.get("text_cfg", {}).get("context_length", 77))


def _package() -> Path | None:
    """Return where open_clip's data files lie, without importing it."""
    spec = find_spec("open_clip")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _settings(files: ModelFiles) -> dict[str, Any] | None:
    settings = files.config.backbone_config
    if settings is None:
        folder = _package()
        file = folder and folder / "model_configs" / f"{files.config.architecture.replace('/', '-')}.json"
        if not file or not file.is_file():
            return None
        settings = json.loads(file.read_text(encoding="utf-8"))
    plain = set(settings) <= CLIP and set(settings.get("text_cfg", ())) == TOWER
    return settings if plain else None


class _Tokenizer:
    """Texts to token ids, as open_clip's SimpleTokenizer."""

    def __init__(self, context_length: int) -> None:
        import regex

        folder = _package()
        if folder is None:
            raise OSError("open_clip is not installed")
        with gzip.open(folder / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as stream:
            merges = [tuple(line.split()) for line in stream.read().split("\n")[1 : MERGES + 1]]
        shown = [
            *range(ord("!"), ord("~") + 1),
            *range(ord("¡"), ord("¬") + 1),
            *range(ord("®"), ord("ÿ") + 1),
        ]
        hidden = [b for b in range(256) if b not in shown]
        self._letter = {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}
        letters = [self._letter[b] for b in (*shown, *hidden)]
        words = [*letters, *(f"{c}</w>" for c in letters), *("".join(pair) for pair in merges), *SPECIAL]
        self._id = {word: i for i, word in enumerate(words)}
        self._rank = {pair: i for i, pair in enumerate(merges)}
        self._start, self._end = (self._id[word] for word in SPECIAL)
        self._words = regex.compile(WORDS, regex.IGNORECASE)
        self._length = context_length

    def __call__(self, text: str) -> list[int]:
        import ftfy

        clean = html.unescape(html.unescape(ftfy.fix_text(text)))
        ids = [i for word in self._words.findall(" ".join(clean.split()).lower()) for i in self._split(word)]
        return [self._start, *ids[: self._length - 2], self._end]

    def _split(self, word: str) -> Iterator[int]:
        """Merge a word's letters, the most usual neighbours first."""
        if word in SPECIAL:
            return iter((self._id[word],))
        parts = [self._letter[b] for b in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self._rank.get(pair, MERGES))
            if best not in self._rank:
                break
            merged, at = [], 0
            while at < len(parts):
                step = 2 if tuple(parts[at : at + 2]) == best else 1
                merged.append("".join(parts[at : at + step]))
                at += step
            parts = merged
        return (self._id[part] for part in parts)


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
