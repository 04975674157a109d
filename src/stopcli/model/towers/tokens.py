"""From words to token ids, as open_clip's tokenizers do it, without importing that.

CLIP's byte pair encoding uses open_clip's vocabulary; others come from files that the transformers library
reads, and the settings of that library that lie beside them.
"""

from __future__ import annotations

import gzip
import html
import string
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from stopcli.errors import CheckpointError, UsageError
from stopcli.model.towers import kept_tokens
from stopcli.model.towers.architectures import VOCABULARY, open_clip_folder, require_transformers

VOCABULARIES = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model")
TOKENIZER_FILES = ("tokenizer_config.json", *VOCABULARIES, "special_tokens_map.json", "config.json")
CLIP_IDS = 49408  # of CLIP's own tokenizer
MERGES = 49152 - 256 - 2  # of the vocabulary file, as many as CLIP uses
SPECIAL = ("<start_of_text>", "<end_of_text>")
WORDS = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer(Protocol):
    """Texts to token ids; 0 stands behind those of a text that are fewer than ``length``."""

    length: int  # how many tokens the text tower reads

    def __call__(self, text: str) -> list[int]:
        """Return a text's ids, cut to ``length``."""

    def count(self, text: str) -> int:
        """Return how many ids a text has, uncut."""


def tokenizer_for(architecture: str, settings: dict[str, Any], words: Path | None) -> Tokenizer:
    """Return an architecture's tokenizer, made once; ``words`` is its folder, where it is not CLIP's own.

    UsageError: the transformers library is needed and not installed. CheckpointError: a file is damaged.
    """
    text = settings.get("text_cfg", {})
    length = int(text.get("context_length", 77))
    most = int(text.get("vocab_size", 1 << 31))
    if not text.get("hf_tokenizer_name"):
        if most < CLIP_IDS:
            problem = f"its text tower knows {most} tokens, and CLIP's tokenizer has {CLIP_IDS}"
            raise CheckpointError(f"{architecture}: {problem}; fetch or copy the model again")
        return _byte_pairs(length)
    require_transformers(architecture)
    if words is None:
        raise CheckpointError(f"{architecture}: the files of its tokenizer are not at hand")
    given = text.get("tokenizer_kwargs") or {}
    clean, strip = str(given.get("clean", "whitespace")), bool(given.get("strip_sep_token"))
    files = (words / name for name in TOKENIZER_FILES)
    state = tuple((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files if f.is_file())
    return _from_files(words, length, clean, strip, most, state)


@lru_cache(maxsize=8)
def _byte_pairs(length: int) -> BytePairs:
    return BytePairs(length)  # reading the vocabulary takes a tenth of a second


@lru_cache(maxsize=8)
def _from_files(
    folder: Path, length: int, clean: str, strip: bool, most: int, state: tuple[tuple[str, int, int], ...]
) -> FromFiles:
    return FromFiles(folder, length, clean=clean, strip_sep=strip, most=most, state=state)


def basic_clean(text: str) -> str:
    """Repair wrongly decoded characters, resolve HTML entities and collapse white space."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


class FromFiles:
    """A tokenizer whose files lie in a folder, read by the transformers library; none of its code is run.

    Marks that separate become 0 with ``strip_sep``. ``state`` tells versions of the files apart.
    """

    def __init__(
        self,
        folder: Path,
        length: int,
        *,
        clean: str,
        strip_sep: bool,
        most: int = 1 << 31,
        state: object = None,
    ) -> None:
        self.length, self._folder, self._most, self._clean = length, folder, most, clean
        self._separator: int | None = None
        file = kept_tokens.place_of(folder, length, state) if state and not strip_sep else None
        if file is not None and (kept := kept_tokens.read(file)) is not None:
            self._encode = kept
            return
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            problem = f"the transformers library is installed, but cannot be imported ({error})"
            raise UsageError(f"{problem}; pip install 'stopcli[multilingual]'") from error
        with self._explained():
            library = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            self._encode = kept_tokens.keep(file, library, length)
            self._separator = library.sep_token_id if strip_sep else None
            self("a")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in one sentence what the library says in many."""
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # whatever it trips over
            reason = str(error).strip().partition("\n")[0].partition(". ")[0][:120]
            reason = "it needs code of its own, which is not run" if "remote_code" in str(error) else reason
            raise CheckpointError(f"{self._folder}: not a tokenizer that can be used ({reason})") from error

    def __call__(self, text: str) -> list[int]:
        return [0 if i == self._separator else i for i in self._ids(text, fitted=True)]

    def count(self, text: str) -> int:
        return len(self._ids(text, fitted=False))

    def _ids(self, text: str, *, fitted: bool) -> list[int]:
        text = basic_clean(text)
        if self._clean == "canonicalize":  # as SigLIP's texts were cleaned
            text = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation)).lower()
            text = " ".join(text.split())
        elif self._clean == "lower":
            text = text.lower()
        ids = self._encode(text, fitted)
        if max(ids, default=0) >= self._most:
            problem = f"it has the token {max(ids)}, and the text tower knows {self._most}"
            raise CheckpointError(f"{self._folder}: not a tokenizer of this model ({problem})")
        return ids


class BytePairs:
    """CLIP's own: at most ``length`` ids, the first and last of which are marks."""

    def __init__(self, length: int) -> None:
        import regex

        folder = open_clip_folder()
        if folder is None:
            raise OSError("open_clip is not installed")
        with gzip.open(folder / VOCABULARY, "rt", encoding="utf-8") as stream:
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
        self.length = length

    def __call__(self, text: str) -> list[int]:
        return [self._start, *self._ids(text)[: self.length - 2], self._end]

    def count(self, text: str) -> int:
        return len(self._ids(text)) + 2

    def _ids(self, text: str) -> list[int]:
        return [i for word in self._words.findall(basic_clean(text).lower()) for i in self._split(word)]

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
