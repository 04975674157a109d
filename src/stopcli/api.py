"""The Python API: the commands' names, on one object.

>>> import stopcli
>>> model = stopcli.load("mini")
>>> [clip] = model.classify("samples/a-dog-moving-left.mp4", labels=["a dog moving left", "a cat asleep"])
>>> clip.scores[0].label
'a dog moving left'
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import InputError, NothingFound, UsageError
from stopcli.fileio import is_folder
from stopcli.hub.registry import resolve
from stopcli.index.types import WINDOW, Example, Filters, SearchRequest
from stopcli.model.config import Sampling
from stopcli.model.preprocess import Fit
from stopcli.output.tables import table_of, to_dict
from stopcli.results import Classification, Embedded, Explanation, Failure, Hit
from stopcli.results.measured import BenchmarkScore
from stopcli.results.training import Finetuned
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.settings import default_model
from stopcli.video.discovery import find_videos

if TYPE_CHECKING:
    from stopcli.index.engine import SearchEngine

    Paths = str | Path | Sequence[str | Path]

Item = TypeVar("Item")


class Results(list[Item], Generic[Item]):
    """A list of records, and the inputs that could not be used; shows itself as a table in a notebook.

    Raises:
        InputError: none of so many inputs could be used.
    """

    failures: list[Failure]

    def __init__(self, items: Iterable[Item | Failure] = (), inputs: int = 0) -> None:
        everything = list(items)
        super().__init__(i for i in everything if not isinstance(i, Failure))
        self.failures = [i for i in everything if isinstance(i, Failure)]
        if self.failures and not self and len(self.failures) >= inputs:
            raise InputError("; ".join(f.message for f in self.failures[:3]))

    def to_records(self) -> list[dict[str, Any]]:
        """Return plain dictionaries, as ``--format json`` gives them: for pandas, say."""
        return [to_dict(record) for record in self]

    def _repr_html_(self) -> str:
        if not self:
            return "<p>no results</p>"
        table = table_of(self)
        head = "".join(f"<th>{escape(c.name)}</th>" for c in table.columns)
        rows = ("".join(f"<td>{escape(c.text)}</td>" for c in row) for row in table.rows)
        skipped = "".join(f"<p>skipped: {escape(f.message)}</p>" for f in self.failures)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>{skipped}"


class Embeddings(Results[Embedded]):
    """What each row of ``vectors`` (N,E) is; they are of unit length, so cosines are dot products."""

    vectors: NDArray[np.float32]


class ShownExplanation(Explanation):
    """An explanation that shows itself as a picture in a notebook."""

    def _repr_png_(self) -> bytes:
        from stopcli.output.explanation import picture

        return picture(self)


def load(
    name: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    frames: int | None = None,
    compile: bool = False,
    focus: float = 0.0,
    fit: Fit | None = None,
    sampling: Sampling | None = None,
    offline: bool = False,
) -> Model:
    """Load a model by name, ``hf:org/repo[@revision]`` or folder; None is the configured default.

    The keywords are those of `stopcli.runtime.encoder.EncoderOptions`; ``offline`` makes no request. A
    ``focus`` above 0 draws the attention of a model without prompts to what moves; ``--focus motion`` is 3.
    ``fit`` says how frames become squares: crop, squash or pad; None is what the tower was trained with.
    ``sampling`` "keyframes" looks at key frames only, faster but coarser; None is the model's own.

    Raises:
        ModelError: one of its kinds. DeviceError: the device is absent or wrong.
    """
    options = EncoderOptions(device, precision, batch_size, frames, compile)
    files = resolve(name or default_model(), offline=offline)
    return Model(Encoder(files.fitted(fit).sampled(sampling).focused(focus), options))


class Model:
    """A loaded model; folders stand for the videos in them. The verbs raise what `Results` raises."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def __repr__(self) -> str:
        return f"<stopcli model {self.encoder.files.name} on {self.encoder.device}>"

    def classify(
        self,
        paths: Paths,
        *,
        labels: Sequence[str] | None = None,
        template: str | None = None,
        top_k: int = 5,
        window: float | None = None,
    ) -> Results[Classification]:
        """Score clips against labels; see `stopcli.tasks.classify.classify`.

        >>> results = model.classify("samples/", top_k=1)
        >>> results[0].scores[0].label
        'a car moving right'
        """
        from stopcli.tasks.classify import classify

        names = None if labels is None else _texts(labels, "labels")
        found = classify(
            self.encoder, _videos(paths), labels=names, template=template, top_k=top_k, window=_span(window)
        )
        return Results(found)

    def retrieve(
        self,
        query: str | Sequence[str],
        paths: Paths,
        *,
        unlike: Sequence[str] = (),
        like: str | Path | Sequence[str | Path | tuple[str | Path, float | None]] = (),
        top_k: int = 10,
        min_score: float | None = None,
        glob: str | None = None,
        min_duration: float | None = None,
        max_duration: float | None = None,
        per_file: int | None = None,
        fold: bool = True,
        images: Paths = (),
        narrow: Sequence[str] = (),
        combine: bool = False,
        window: float | None = WINDOW,
        index: str | Path | None = None,
    ) -> Results[Hit]:
        """Rank moments by texts and examples, through the index.

        >>> hits = model.retrieve("a dog moving left", "samples/", top_k=1)
        >>> hits[0].path
        'samples/a-dog-moving-left.mp4'

        Args:
            query: one text or several.
            paths: where to search.
            unlike: texts; moments nearer to one of them are no hits.
            like: videos as queries, or pairs of a video and a second of it.
            top_k: hits a query.
            min_score: hits must have at least this cosine.
            glob: what its path is like: ``*/2021/*``.
            min_duration: of its file, seconds.
            max_duration: of its file, seconds.
            per_file: at most so many hits of one file.
            fold: list copies of a moment in other files under the best of them, as its ``also``.
            images: picture files as queries.
            narrow: texts that each hit must fit as well.
            combine: all queries are one: what is like all of them.
            window: seconds; None searches whole files.
            index: the index's folder; None is the default one.
        """
        texts = (query,) if isinstance(query, str) else tuple(query)
        pairs = ((e, None) if isinstance(e, (str, Path)) else e for e in _as_list(like))
        examples = tuple(Example(Path(path), at) for path, at in pairs)
        filters = Filters(top_k, min_score, glob, min_duration, max_duration, per_file, fold)
        without, both = tuple(_texts(unlike, "unlike")), tuple(_texts(narrow, "narrow"))
        pictures = tuple(map(Path, _as_list(images)))
        request = SearchRequest(texts, without, examples, pictures, both, combine, _span(window), filters)
        videos, folders = _videos(paths), [Path(p) for p in _as_list(paths) if is_folder(p)]
        with _engine(self.encoder, index) as engine:
            result = engine.search(request, videos, folders)
        return Results([*result.hits, *result.failures, *result.known], len(videos))

    def embed(self, paths: Paths, *, window: float | None = None) -> Embeddings:
        """Embed videos, or windows of them.

        >>> model.embed("samples/").vectors.shape
        (8, 192)
        """
        items = list(self.encoder.encode_videos(_videos(paths), window=_span(window)))
        clips = [i for i in items if not isinstance(i, Failure)]
        rows = (Embedded(c.path, c.start, c.end, n) for n, c in enumerate(clips))
        embeddings = Embeddings([*rows, *(i for i in items if isinstance(i, Failure))])
        embeddings.vectors = np.stack([c.vector for c in clips])
        return embeddings

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts -> (N,E) of unit length.

        >>> model.embed_texts(["a dog", "a cat"]).shape
        (2, 192)
        """
        if not len(texts):
            return np.zeros((0, self.encoder.embed_dim), np.float32)
        return self.encoder.encode_texts(_texts(texts, "texts"))

    def explain(
        self,
        path: str | Path,
        *,
        block: int | None = None,
        labels: Sequence[str] = (),
        template: str | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> ShownExplanation:
        """Return what the prompts did in a clip; see `stopcli.tasks.explain.explain`.

        >>> model.explain("samples/a-dog-moving-left.mp4").shown.regions.shape
        (8, 6, 6)
        """
        from stopcli.tasks.explain import explain

        how: dict[str, Any] = {"labels": _texts(labels, "labels"), "template": template}
        found = explain(self.encoder, path, block=block, start=start, end=end, **how)
        return ShownExplanation(**vars(found))

    def finetune(
        self,
        data: str | Path,
        output: str | Path,
        *,
        resume: bool = False,
        force: bool = False,
        skip_bad: bool = False,
        **options: Any,
    ) -> Finetuned:
        """Adapt a copy of this model to labelled clips; ``load(output)`` is the result.

        ``options`` are those of ``stop finetune``, such as ``shots=16``: see
        `stopcli.train.options.FinetuneOptions`.

        Raises:
            BadDataset: the table has faults: all of them, by row. FileExists: ``output`` holds a run.
        """
        from stopcli.train.finetune import finetune
        from stopcli.train.options import FinetuneOptions

        return finetune(
            lambda: self.encoder.files,
            Path(data),
            Path(output),
            _Silent(),
            FinetuneOptions(**options),
            self.encoder.options,
            resume=resume,
            force=force,
            skip_bad=skip_bad,
        )

    def benchmark(
        self,
        dataset: str | Path,
        *,
        annotations: str | Path | Sequence[str | Path] = (),
        videos: str | Path | None = None,
        template: str | None = None,
        seed: int = 0,
    ) -> Results[BenchmarkScore]:
        """Score the model, beside plain CLIP, on a table or a published data set.

        Args:
            dataset: a table of labelled or captioned videos, or a name such as ``msrvtt``.
            annotations: the files published with the data set.
            videos: the folder with its videos.
            template: around a label; None is the model's own, else "a video of {}".
            seed: of the bootstrap.
        """
        from stopcli.data.protocols import benchmarks
        from stopcli.eval.accuracy import accuracy

        wanted = benchmarks.load(str(dataset), list(map(Path, _as_list(annotations))))
        located, missing = benchmarks.locate(wanted, None if videos is None else Path(videos))
        report = accuracy([self.encoder], located, missing=missing, template=template, seed=seed)
        return Results([*report.scores, *report.failures])


class _Silent:
    """A training callback that says nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda _: None


def _videos(paths: Paths) -> list[Path]:
    videos = list(dict.fromkeys(find_videos(_as_list(paths))))
    if not videos:
        raise NothingFound(f"no video found in {paths}")
    return videos


def _engine(encoder: Encoder, index: str | Path | None) -> SearchEngine:
    from stopcli.index.engine import SearchEngine
    from stopcli.index.store import default_folder

    folder, asked = Path(index) if index is not None else default_folder(), encoder.options.precision
    precision = None if asked == "auto" else asked

    def twin() -> Encoder:  # an index may go on in another precision; this model does not
        return copy.copy(encoder)

    return SearchEngine(folder, encoder.files, twin, precision=precision, frames=encoder.frames)


def _span(window: float | None) -> float | None:
    """Return a window's length in seconds as an index keeps it; raises UsageError."""
    if window is not None and not 0.1 <= window <= 86400:
        raise UsageError(f"window must be from 0.1 to 86400 seconds, or None for whole files; got {window!r}")
    return None if window is None else float(window)


def _as_list(paths: str | Path | Sequence[Item]) -> Sequence[Item | str | Path]:
    return [paths] if isinstance(paths, (str, Path)) else paths


def _texts(texts: Sequence[str], name: str) -> list[str]:
    if isinstance(texts, str):
        raise UsageError(f"{name} must be a list of texts, got one text: {texts!r}")
    return list(texts)
