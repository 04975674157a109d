"""CLIP's byte pair encoding, with open_clip's vocabulary: the tokens are those of its SimpleTokenizer."""

from __future__ import annotations

import gzip
import html
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from stopcli.model.towers.architectures import VOCABULARY, open_clip_folder

MERGES = 49152 - 256 - 2  # of the vocabulary file, as many as CLIP uses
SPECIAL = ("<start_of_text>", "<end_of_text>")
WORDS = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@lru_cache(maxsize=8)
def tokenizer(context_length: int) -> Tokenizer:
    """Return a tokenizer, made once: reading the vocabulary takes a tenth of a second."""
    return Tokenizer(context_length)


class Tokenizer:
    """Texts to token ids, at most ``context_length`` of them, the first and last of which are marks."""

    def __init__(self, context_length: int) -> None:
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
