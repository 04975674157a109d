"""The one way from texts to vectors, by whatever is quickest: a loaded model, NumPy, or torch.

CLIP's own kind of text tower runs in NumPy, because importing torch takes ten times as long as embedding
a sentence; any other is loaded into torch, without its vision tower. Letters: N texts, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import UsageError
from stopcli.model.files import ModelFiles
from stopcli.runtime import numpy_text

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]


def cut_texts(files: ModelFiles, texts: Sequence[str]) -> tuple[list[str], int]:
    """Return those of the texts that are longer than the tower reads, and how many tokens that is."""
    most = numpy_text.context_length(files)
    long = (t for t in texts if len(t.encode(errors="replace")) + 2 > most)  # a token is a byte or more
    return [t for t in long if numpy_text.read_length(files, t) > most], most


class TextEncoder:
    """Embeds texts, each once: with ``tower``, of a model that is loaded, else with a text tower alone."""

    def __init__(self, files: ModelFiles, tower: Callable[[Sequence[str]], Vectors] | None = None) -> None:
        self._files, self._tower = files, tower or self._load
        self._known: dict[str, Vectors] = {}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Embed texts -> (N,E) float32 of unit length; raises UsageError for one that is empty."""
        if any(not text.strip() for text in texts):
            raise UsageError("a text to embed is empty; every label or query needs a word")
        new = [t for t in dict.fromkeys(texts) if t not in self._known]
        if new:
            self._known.update(zip(new, self._tower(new), strict=True))
        return np.stack([self._known[t] for t in texts])

    def _load(self, texts: Sequence[str]) -> Vectors:
        found = numpy_text.embed_texts(self._files, texts)
        if found is not None:
            return found
        from stopcli.model.loading import embed_texts_alone

        return embed_texts_alone(self._files, texts)
