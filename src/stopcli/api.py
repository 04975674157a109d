"""The Python API: the commands' names, on one object.

import stopcli
model = stopcli.load("mini")
model.classify("clip.mp4", labels=["a dog", "a cat"])
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stopcli.hub.registry import resolve
from stopcli.index.database import default_folder
from stopcli.index.engine import SearchEngine, SearchRequest
from stopcli.index.ranking import WINDOW, Filters
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.settings import default_model
from stopcli.tasks.classify import classify
from stopcli.tasks.embed import embed_texts, embed_videos
from stopcli.video.discovery import find_videos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stopcli.results import Classification, Embedded, Failure, Hit

    Paths = str | Path | Sequence[str | Path]


def load(name: str | None = None, *, offline: bool = False, **options: object) -> Model:
    """Load a model by name, ``hf:org/repo[@revision]`` or folder.

    Args:
        name: None is the configured default.
        offline: make no request.
        **options: fields of `RuntimeOptions`: device, precision, batch_size, frames, compile.

    Raises:
        ModelError: one of its kinds. DeviceError: the device is absent or wrong.
    """
    files = resolve(name or default_model(), offline=offline)
    return Model(Encoder(files, replace(EncoderOptions(), **options)))  # type: ignore[arg-type]


class Model:
    """A loaded model; folders stand for the videos in them."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def classify(
        self,
        paths: Paths,
        *,
        labels: Sequence[str] | None = None,
        template: str | None = None,
        top_k: int = 5,
        window: float | None = None,
    ) -> list[Classification | Failure]:
        """Score clips against labels; see `stopcli.classify.classify`."""
        found = list(find_videos(_as_list(paths)))
        return list(
            classify(self.encoder, found, labels=labels, template=template, top_k=top_k, window=window)
        )

    def retrieve(
        self,
        query: str | Sequence[str],
        paths: Paths,
        *,
        top_k: int = 10,
        window: float | None = WINDOW,
        index: str | Path | None = None,
    ) -> tuple[list[Hit], list[Failure]]:
        """Rank moments by a text, through the index; see `stopcli.archive.Archive.search`."""
        texts = (query,) if isinstance(query, str) else tuple(query)
        given = [Path(p) for p in _as_list(paths)]
        folder = Path(index) if index is not None else default_folder()
        with SearchEngine(
            folder, self.encoder.files, lambda: self.encoder, precision=self.encoder.precision,
            frames=self.encoder.frames,
        ) as archive:  # fmt: skip
            ask = SearchRequest(texts, window=window, filters=Filters(top_k=top_k))
            answer = archive.search(ask, list(find_videos(given)), [p for p in given if p.is_dir()])
        return list(answer.hits), list(answer.failures)

    def embed(
        self, paths: Paths, output: str | Path, *, window: float | None = None, force: bool = False
    ) -> tuple[list[Embedded], list[Failure]]:
        """Write clips' vectors to a file; see `stopcli.embed.embed_videos`."""
        found = list(find_videos(_as_list(paths)))
        return embed_videos(self.encoder, found, Path(output), window=window, force=force)

    def embed_texts(self, texts: Sequence[str], output: str | Path, *, force: bool = False) -> list[Embedded]:
        """Write texts' vectors to a file; see `stopcli.embed.embed_texts`."""
        return embed_texts(self.encoder, texts, Path(output), force=force)


def _as_list(paths: Paths) -> Sequence[str | Path]:
    return [paths] if isinstance(paths, (str, Path)) else paths
