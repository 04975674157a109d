"""Searching one video without an index: as a search of an archive would find its moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopcli.data.labels import null_sentences
from stopcli.errors import InputError
from stopcli.index.ranking import search
from stopcli.index.selection import Selection
from stopcli.index.sync import placed
from stopcli.index.types import Filters, Query
from stopcli.results import EncodedClip, Hit

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder


@dataclass(frozen=True)
class VideoSearch:
    """A model that looks for texts in one video at a time, in windows of so many seconds.

    With ``shots``, windows end at cuts, and are so long at most.
    """

    encoder: Encoder
    window: float
    shots: bool = True
    top_k: int = 10

    def find(self, path: Path, texts: Sequence[str]) -> list[list[Hit]]:
        """Return the moments of a video that fit each text, the best first; raises InputError."""
        clips = []
        for item in self.encoder.encode_videos([path], window=self.window, shots=self.shots, steady=True):
            if not isinstance(item, EncodedClip):
                raise InputError(item.message)
            clips.append(item)
        numbers, begin, ends = placed(clips, self.window, shots=self.shots)
        selection = Selection(
            np.zeros(1, np.int64),
            np.array([len(clips)]),
            np.array([clips[-1].until]),
            (str(path),),
            self.window,
            {} if numbers is None else {0: numbers},
            {0: begin},
            {} if ends is None else {0: ends},
            self.shots,
        )
        nulls = self.encoder.encode_texts(null_sentences(self.encoder.files.config))
        queries = [
            Query(text, v, nulls) for text, v in zip(texts, self.encoder.encode_texts(texts), strict=True)
        ]
        hits: dict[str, list[Hit]] = {text: [] for text in texts}
        vectors = np.stack([clip.vector for clip in clips])
        for hit in search(vectors, selection, queries, Filters(self.top_k, fold=False)):
            hits[hit.query].append(hit)
        return [hits[text] for text in texts]
