"""Tokenizers of the transformers library, kept so that they run without it: importing it takes seconds.

What is kept is the library's inner tokenizer with its marks, its cutting and its padding, if it gives the ids
that the library gives.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stopcli.errors import CannotWrite
from stopcli.fileio import keep_latest, make_private_folder, write_text
from stopcli.settings import cache_folder

Encode = Callable[[str, bool], list[int]]  # a text, and whether its ids are cut and padded

KEPT = 5  # tokenizers, tens of megabytes each
SAMPLES = (
    "a dog",
    "  Ein Hund, 7 Äpfel!!",
    "犬が家に走る",
    "word " * 300,
    "",
    "<s> <eos> [SEP] </s> <pad> [CLS] 😀\n",
)


def place_of(folder: Path, length: int, state: object) -> Path:
    """Return where a folder's tokenizer is kept; ``state`` changes whenever its files do."""
    made = f"{folder.resolve()} {length} {state} {version('transformers')} {version('tokenizers')}"
    return cache_folder() / "tokenizers" / f"{hashlib.sha256(made.encode()).hexdigest()[:40]}.json"


def read(file: Path) -> Encode | None:
    """Return a tokenizer that was kept; None if there is none that can be used."""
    from tokenizers import Tokenizer

    try:
        tokens = Tokenizer.from_file(str(file))
    except Exception:  # the library raises nothing narrower
        return None
    return _encode(tokens) if tokens.truncation and tokens.padding else None


def keep(file: Path | None, library: Any, length: int) -> Encode:
    """Return what encodes as a tokenizer of the library does, and keep it in a file where it can be kept."""

    def slow(text: str, fitted: bool) -> list[int]:
        how = {"max_length": length, "padding": "max_length", "truncation": True} if fitted else {}
        ids: list[int] = library(text, verbose=False, **how)["input_ids"]
        return ids

    slow("a", True)  # raises what is wrong with it
    inner = getattr(library, "backend_tokenizer", None)
    if inner is None:
        return slow
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_str(inner.to_str())
    tokens.enable_truncation(length, direction=library.truncation_side)
    pad = {"pad_id": library.pad_token_id, "pad_token": library.pad_token, "direction": library.padding_side}
    tokens.enable_padding(length=length, pad_type_id=library.pad_token_type_id, **pad)
    text, fast = tokens.to_str(), _encode(tokens)
    if any(fast(sample, fitted) != slow(sample, fitted) for sample in SAMPLES for fitted in (True, False)):
        return slow
    if file is not None:
        with suppress(CannotWrite):
            make_private_folder(file.parent)
            write_text(file, text)
            keep_latest(file.parent, KEPT)
    return fast


def _encode(tokens: Any) -> Encode:
    truncation, padding, alone = tokens.truncation, tokens.padding, threading.Lock()

    def encode(text: str, fitted: bool) -> list[int]:
        with alone:
            if fitted:
                tokens.enable_truncation(**truncation)
                tokens.enable_padding(**padding)
            else:
                tokens.no_truncation()
                tokens.no_padding()
            ids: list[int] = tokens.encode(text).ids
        return ids

    return encode
