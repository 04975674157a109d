"""The one way from texts to vectors, by whatever is quickest: a loaded model, NumPy, or torch.

A few sentences for CLIP's own kind of text tower are embedded in NumPy, because importing torch takes ten
times as long as one of them; many, or those for other towers, by torch, without the vision tower.
Letters: N texts, E embedding size.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import CannotWrite, UsageError
from stopcli.fileio import keep_latest, make_private_folder, replacing
from stopcli.model.files import ModelFiles
from stopcli.runtime import numpy_text
from stopcli.settings import cache_folder

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]


KEPT, MOST_BYTES = 100, 1 << 30  # lists of texts, and their size; those that were not used for longest go
MANY = 50  # texts at once that are kept on the disk, and for which importing torch pays


def check_texts(texts: Sequence[str], most: float = math.inf) -> None:
    """Raise UsageError for a text that is empty, of more than so many characters, or no text."""
    for text in texts:
        if len(text) > most:
            raise UsageError(f"{text[:40]!r}...: has {len(text)} characters; {most} are the most")
        if not text.strip():
            raise UsageError("a text to embed is empty; every label or query needs a word")
        if text != text.encode(errors="ignore").decode():
            raise UsageError(f"{text[:80]!a}: is not valid UTF-8; write it again, as text")


def cut_texts(files: ModelFiles, texts: Sequence[str]) -> dict[str, list[str]]:
    """Return those of the texts that are longer than the tower reads, and the words that it does not."""
    cut = {text: numpy_text.unread_words(files, text) for text in texts}
    return {text: words for text, words in cut.items() if words}


class TextEncoder:
    """Embeds texts, each once: with ``tower``, of a model that is loaded, else with a text tower alone.

    ``kind`` tells apart what towers of the same weights make of a text: their precision.
    """

    def __init__(
        self, files: ModelFiles, tower: Callable[[Sequence[str]], Vectors] | None = None, kind: str = "fp32"
    ) -> None:
        self._files, self._tower, self._kind = files, tower or self._load, kind
        self._known: dict[str, Vectors] = {}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Embed texts -> (N,E) float32 of unit length; raises UsageError for one that is empty."""
        check_texts(texts)
        new = [t for t in dict.fromkeys(texts) if t not in self._known]
        if new:
            embed = self._kept if len(new) >= MANY else self._tower
            self._known.update(zip(new, embed(new), strict=True))
        return np.stack([self._known[t] for t in texts])

    def _kept(self, texts: Sequence[str]) -> Vectors:
        """Embed many texts, once for all runs: a list of labels is used again and again."""
        name = hashlib.sha256(json.dumps([self._files.text_key(), self._kind, *texts]).encode()).hexdigest()
        file = cache_folder() / "texts" / f"{name[:40]}.npy"
        with suppress(OSError, ValueError, EOFError):  # not there, or cut short
            with file.open("rb") as stream:
                vectors: Vectors = np.load(stream)
            norms = np.linalg.norm(vectors, axis=-1)
            if vectors.ndim == 2 and len(vectors) == len(texts) and np.abs(norms - 1).max() < 0.01:
                with suppress(OSError):
                    file.touch()
                return vectors
        vectors = self._tower(texts)
        with suppress(CannotWrite):
            make_private_folder(file.parent)
            with replacing(file) as part, part.open("wb") as stream:
                np.save(stream, vectors)
            keep_latest(file.parent, KEPT, MOST_BYTES)
        return vectors

    def _load(self, texts: Sequence[str]) -> Vectors:
        if len(texts) < MANY:
            found = numpy_text.embed_texts(self._files, texts)
            if found is not None:
                return found
        from stopcli.model.loading import embed_texts_alone

        return embed_texts_alone(self._files, texts)
