"""Accuracy of several models on the same clips: one protocol, one run, one table."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stopcli.data.labels import prompts_for
from stopcli.errors import InputError, StopError
from stopcli.eval.metrics import RECALLS, accuracy_scores, interval, ranks_of, retrieval_scores
from stopcli.eval.retrieval import caption_ranks
from stopcli.results import BenchmarkScore, Failure
from stopcli.video.clips import read_frames
from stopcli.video.prefetch import prefetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stopcli.data.benchmarks import Benchmark, Item
    from stopcli.model.config import StopConfig
    from stopcli.runtime.encoder import Encoder

    Key = tuple[Path, float | None, float | None]

# MSR-VTT 1k-A, CLIP ViT-B/32: R@1, R@5, R@10, MnR as printed in arXiv 2503.15973
PUBLISHED = {
    "text-to-video": {
        "CLIP4Clip": (43.1, 70.4, 80.8, 16.2), "VPT": (42.0, 66.6, 77.3, 19.2),
        "VoP": (44.6, 69.9, 80.3, 16.3),
        "DGL-Transformer": (45.8, 69.3, 79.4, 16.3), "MPT-Transformer": (46.3, 70.9, 80.7, 15.6),
        "STOP": (47.7, 71.4, 81.1, 15.2),
    },
    "video-to-text": {"STOP": (46.1, 71.6, 81.0, 12.2)},
}  # fmt: skip


@dataclass
class Report:
    """All that a benchmark found."""

    benchmark: Benchmark
    scores: list[BenchmarkScore]
    missing: tuple[str, ...] = ()
    failures: list[Failure] = field(default_factory=list)
    said: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)
    """Of each method, in classification: true and said class of every clip, over all splits."""


def method_name(config: StopConfig | None) -> str:
    """Say in words which prompts a model has."""
    if config is None:
        return "plain CLIP"
    names = {
        ("dynamic", "dynamic"): "STOP", ("dynamic", "off"): "spatial only",
        ("off", "dynamic"): "temporal only", ("static", "static"): "static prompts",
    }  # fmt: skip
    return names.get(
        (config.spatial, config.temporal), f"spatial {config.spatial}, temporal {config.temporal}"
    )


def accuracy(
    encoders: Sequence[Encoder],
    benchmark: Benchmark,
    *,
    missing: tuple[str, ...] = (),
    template: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Score models, and the plain CLIP of each different backbone among them, on a benchmark.

    Every clip is decoded once for all models that want the same frames of it.

    Args:
        encoders: the models.
        benchmark: with the paths of its clips.
        missing: names of videos that were not found; the scores say how many.
        template: around a label; None is each model's own, else "a video of {}".
        seed: of the bootstrap.
        progress: called with each path that is done.
    """
    methods = _with_plain(encoders)
    clips = list(dict.fromkeys(_key(item) for items in benchmark.splits for item in items))
    vectors, faults = _embed(methods, clips, progress)
    splits = tuple(tuple(i for i in items if _key(i) not in faults) for items in benchmark.splits)
    report = Report(replace(benchmark, splits=splits), [], missing)
    report.failures = [Failure.of(key[0], fault) for key, fault in faults.items()]
    if not any(splits):
        raise InputError(f"{benchmark.name}: none of its {len(clips)} videos can be read")
    names = _names(methods)
    for name, encoder, found in zip(names, methods, vectors, strict=True):
        score = _classification if benchmark.task == "classification" else _retrieval
        report.scores += score(report, name, encoder, found, template, seed, len(missing) + len(faults))
    report.scores += _published(benchmark, methods)
    return report


def _with_plain(encoders: Sequence[Encoder]) -> list[Encoder]:
    """Put before the models the plain CLIP of each backbone, once, unless it is given itself."""
    seen = {(r.files.weights_hash(), r.frames) for r in encoders if r.files.config.stop is None}
    plain = []
    for encoder in encoders:
        twin = encoder.without_prompts()
        which = twin.files.weights_hash(), twin.frames
        if which not in seen:
            seen.add(which)
            plain.append(twin)
    return [*plain, *encoders]


def _names(methods: Sequence[Encoder]) -> list[str]:
    """Name each method by its prompts; by its model too where that does not tell them apart."""
    kinds = [method_name(m.files.config.stop) for m in methods]
    return [
        kind if kinds.count(kind) == 1 else f"{kind} ({m.files.name})"
        for kind, m in zip(kinds, methods, strict=True)
    ]


def _key(item: Item) -> Key:
    assert item.path is not None
    return item.path, item.start, item.end


def _embed(
    methods: Sequence[Encoder], clips: Sequence[Key], progress: Callable[[str], None] | None
) -> tuple[list[dict[Key, NDArray[np.float32]]], dict[Key, StopError]]:
    """Return for each method the vectors of the clips, and the faults of those that cannot be read."""
    shapes = list(dict.fromkeys((m.frames, m.size) for m in methods))
    found: list[dict[Key, NDArray[np.float32]]] = [{} for _ in methods]
    faults: dict[Key, StopError] = {}

    def read(clip: Key) -> list[list[NDArray[np.uint8]]]:
        path, start, end = clip
        return [[read_frames(path, t, s, start=start, end=end, threads=1).pixels for t, s in shapes]]

    def flush(waiting: list[tuple[Key, list[NDArray[np.uint8]]]]) -> None:
        for method, into in zip(methods, found, strict=True):
            which = shapes.index((method.frames, method.size))
            vectors = method.encode_pixels(np.stack([pixels[which] for _, pixels in waiting]))
            into.update(zip((key for key, _ in waiting), vectors, strict=True))

    waiting: list[tuple[Key, list[NDArray[np.uint8]]]] = []
    size = min(m.batch_size for m in methods)
    for key, item in prefetch(read, clips):
        if isinstance(item, StopError):
            faults[key] = item
        else:
            waiting.append((key, item))
        if len(waiting) == size:
            flush(waiting)
            waiting = []
        if progress is not None:
            progress(str(key[0]))
    if waiting:
        flush(waiting)
    return found, faults


def _made(encoder: Encoder, seed: int) -> dict[str, Any]:
    return encoder.describe() | {"seed": seed, "command": " ".join(sys.argv)}


def _retrieval(
    report: Report, name: str, encoder: Encoder, vectors: dict[Key, NDArray[np.float32]],
    _template: str | None, seed: int, missing: int,
) -> Iterator[BenchmarkScore]:  # fmt: skip
    (items,) = report.benchmark.splits
    owner = np.array([i for i, item in enumerate(items) for _ in item.texts])
    videos = np.stack([vectors[_key(i)] for i in items])
    texts = encoder.encode_texts([t for i in items for t in i.texts])
    forward, back = caption_ranks(videos, texts, owner)
    for direction, ranks, groups in (("text-to-video", forward, owner), ("video-to-text", back, None)):
        sure = {f"R@{k}": interval((ranks <= k) * 100.0, groups, seed=seed) for k in RECALLS}
        sure["MnR"] = interval(ranks, groups, seed=seed)
        yield BenchmarkScore(
            name, report.benchmark.name, direction, retrieval_scores(ranks), sure, len(items), missing, False,
            _made(encoder, seed) | {"protocol": report.benchmark.protocol},
        )  # fmt: skip


def _classification(
    report: Report, name: str, encoder: Encoder, vectors: dict[Key, NDArray[np.float32]],
    template: str | None, seed: int, missing: int,
) -> Iterator[BenchmarkScore]:  # fmt: skip
    labels = report.benchmark.labels
    around = prompts_for(["{}"], encoder.files.config, template)[0]
    texts = encoder.encode_texts(prompts_for(labels, encoder.files.config, template))
    places = {label: i for i, label in enumerate(labels)}
    each: list[dict[str, float]] = []
    truths, saids, ranks = [], [], []
    for items in filter(None, report.benchmark.splits):
        scores = np.stack([vectors[_key(i)] for i in items]) @ texts.T
        truth = np.array([places[i.texts[0]] for i in items])
        ranks.append(ranks_of(scores, truth))
        each.append(accuracy_scores(ranks[-1]))
        truths.append(truth)
        saids.append(scores.argmax(1))
    report.said[name] = np.concatenate(truths), np.concatenate(saids)
    together = np.concatenate(ranks)
    shown = (1, 5) if len(labels) > 5 else (1,)
    mean = {f"top-{k}": float(np.mean([e[f"top-{k}"] for e in each])) for k in shown}
    sure = {f"top-{k}": interval((together <= k) * 100.0, seed=seed) for k in shown}
    more = {"template": around, "protocol": report.benchmark.protocol, "splits": [e["top-1"] for e in each]}
    clips = len({_key(i) for items in report.benchmark.splits for i in items})
    yield BenchmarkScore(
        name, report.benchmark.name, "classification", mean, sure, clips, missing, False,
        _made(encoder, seed) | more,
    )  # fmt: skip


def _published(benchmark: Benchmark, methods: Sequence[Encoder]) -> list[BenchmarkScore]:
    """Return the authors' rows where the protocol and the backbone are the same."""
    if benchmark.name != "msrvtt" or not any("ViT-B-32" in m.files.config.architecture for m in methods):
        return []
    made = {"source": "arXiv 2503.15973", "protocol": benchmark.protocol}
    return [
        BenchmarkScore(
            f"{name} (published)", "msrvtt", direction,
            dict(zip(("R@1", "R@5", "R@10", "MnR"), row, strict=True)), {}, 1000, 0, True, made,
        )
        for direction, rows in PUBLISHED.items()
        for name, row in rows.items()
    ]  # fmt: skip
