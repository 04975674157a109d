"""Accuracy of several models on the same clips: one protocol, one run, one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.data.labels import check_template, prompts_for
from stopcli.data.protocols.benchmarks import Benchmark
from stopcli.data.seen import read_seen
from stopcli.data.table import Clip
from stopcli.errors import InputError, StopError
from stopcli.eval.adapters import pixel_vector, simple_heads
from stopcli.eval.metrics import (
    RECALLS,
    accuracy_scores,
    interval,
    label_ranks,
    retrieval_scores,
    share_interval,
    tops,
)
from stopcli.eval.retrieval import caption_ranks
from stopcli.model.config import StopConfig
from stopcli.results import Failure
from stopcli.results.measured import BenchmarkScore
from stopcli.video.workers.pool import read_frames
from stopcli.video.workers.prefetch import prefetch

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder
    from stopcli.runtime.head import Head

    Vectors = dict[Clip, NDArray[np.float32]]
    Predictions = tuple[NDArray[np.int64], NDArray[np.int64]]

# MSR-VTT 1k-A, CLIP ViT-B/32: R@1, R@5, R@10, MnR as printed in arXiv 2503.15973
PUBLISHED = (
    ("text-to-video", "CLIP4Clip", (43.1, 70.4, 80.8, 16.2)),
    ("text-to-video", "VPT", (42.0, 66.6, 77.3, 19.2)),
    ("text-to-video", "VoP", (44.6, 69.9, 80.3, 16.3)),
    ("text-to-video", "DGL-Transformer", (45.8, 69.3, 79.4, 16.3)),
    ("text-to-video", "MPT-Transformer", (46.3, 70.9, 80.7, 15.6)),
    ("text-to-video", "STOP", (47.7, 71.4, 81.1, 15.2)),
    ("video-to-text", "STOP", (46.1, 71.6, 81.0, 12.2)),
)
METHODS = {
    ("dynamic", "dynamic"): "STOP",
    ("dynamic", "off"): "spatial only",
    ("off", "dynamic"): "temporal only",
    ("static", "static"): "static prompts",
}


@dataclass
class Report:
    """All that a benchmark measured."""

    benchmark: Benchmark  # with the clips that could be read
    missing: tuple[str, ...]
    failures: list[Failure]
    left_out: int = 0  # clips that a model was trained on
    notes: list[str] = field(default_factory=list)  # what was scored in another way than one may think
    scores: list[BenchmarkScore] = field(default_factory=list)
    # of each method, in classification: true and predicted class of every clip, over all splits
    predictions: dict[str, Predictions] = field(default_factory=dict)


def method_name(config: StopConfig | None) -> str:
    """Say in words which prompts a model has."""
    if config is None:
        return "plain CLIP"
    modes = config.spatial, config.temporal
    return METHODS.get(modes, f"spatial {config.spatial}, temporal {config.temporal}")


def accuracy(
    encoders: Sequence[Encoder],
    benchmark: Benchmark,
    *,
    missing: tuple[str, ...] = (),
    template: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    command: str | None = None,
    raw_pixels: bool = False,
) -> Report:
    """Score models, and the plain CLIP of each different backbone among them, on a benchmark.

    Every clip is decoded once for all models that want the same frames of it. ``missing`` names the videos
    that were not found: the scores say how many. ``template`` stands around a label; None is each model's
    own, else "a video of {}". ``seed`` is the bootstrap's, ``progress`` is called with each path that is
    done, ``command`` is kept with the scores.

    Clips that one of the models was trained on are left out. Beside plain CLIP stand the simplest ways to
    learn labels from such clips, or from a table's rows for training; with ``raw_pixels`` the nearest class
    mean of reduced pictures too, which warns of a set that is easier than it looks.

    Raises:
        InputError: none of the clips can be read, or all of them were trained on.
    """
    check_template(template)
    benchmark, left_out = _unseen(encoders, benchmark)
    notes: list[str] = []
    if left_out and "test rows" not in benchmark.protocol:
        held = "clips that are scored may be among those held out for validation when a model was trained"
        notes.append(f"{held}; then its scores are a little too high. Mark clips as test before training.")
    learned = [_head(encoder, benchmark, template, notes) for encoder in encoders]
    methods = _with_plain(encoders, learned, template if benchmark.labels else "")
    heads = [*[None] * (len(methods) - len(encoders)), *learned]  # plain CLIP, which has none, comes first
    learnt = tuple(dict.fromkeys(item.clip for item in benchmark.training if benchmark.labels))
    raw: Vectors | None = {} if raw_pixels and benchmark.task == "classification" else None
    vectors, faults = _embed(methods, tuple(dict.fromkeys((*benchmark.clips, *learnt))), progress, raw)
    if all(clip in faults for clip in benchmark.clips):
        raise InputError(f"{benchmark.name}: none of its {len(benchmark.clips)} videos can be read")
    scored = set(benchmark.clips)
    splits = (tuple(item for item in items if item.clip not in faults) for items in benchmark.splits)
    training = tuple(item for item in benchmark.training if item.clip not in faults)
    benchmark = replace(benchmark, splits=tuple(filter(None, splits)), training=training)
    failures = [Failure.of(clip[0], fault) for clip, fault in faults.items() if clip in scored]
    report = Report(benchmark, missing, failures, left_out, notes)
    clips, absent = len(benchmark.clips), len(missing) + len(scored & faults.keys())
    alone = len(methods) - len(encoders)  # backbones, which come first
    named = zip(_names(methods, heads), methods, heads, vectors, strict=True)
    for number, (name, encoder, head, embedded) in enumerate(named):
        how = encoder.describe() | {"protocol": benchmark.protocol, "command": command, "seed": seed}
        how["model"] += " (its backbone alone)" if number < alone else ""
        blank = BenchmarkScore(name, benchmark.name, "", {}, {}, clips, absent, False, how)
        if benchmark.task == "retrieval":
            report.scores += _retrieve(benchmark, encoder, embedded, blank)
            continue
        around, *prompts = prompts_for(["{}", *benchmark.labels], encoder.files.config, template)
        blank.provenance["template"] = around
        if head is None:
            blank.provenance.pop("head", None)
        texts, clips_scored = encoder.encode_texts(prompts), _stacked(benchmark, embedded)
        rows = {name: encoder.label_scores(clips_scored, texts, head).logits}
        if encoder.files.config.stop is None and head is None and not encoder.files.focus:
            simple = _simple_heads(benchmark, embedded, texts)
            rows |= {f"{name}, {way}": found.logits(clips_scored) for way, found in simple.items()}
        for method, logits in rows.items():
            score, report.predictions[method] = _classify(benchmark, logits, replace(blank, method=method))
            report.scores.append(score)
    if raw is not None:
        size = len(next(iter(raw.values())))
        no_words = np.zeros((len(benchmark.labels), size), np.float32)
        if simple := _simple_heads(benchmark, raw, no_words):
            logits = simple["nearest class mean"].logits(_stacked(benchmark, raw))
            how = {key: blank.provenance[key] for key in ("protocol", "command", "seed")}  # of no model
            row = replace(blank, method="raw pixels, nearest class mean", provenance=how)
            score, report.predictions[row.method] = _classify(benchmark, logits, row)
            report.scores.append(score)
    if not left_out:
        report.scores += published(benchmark, methods)
    return report


def _unseen(encoders: Sequence[Encoder], benchmark: Benchmark) -> tuple[Benchmark, int]:
    """Leave out the clips that a model was trained on, and say how many; raises InputError if all were."""
    trained = {e.files.name: read_seen(e.files.folder) for e in encoders if e.files.folder is not None}
    known = {clip for clip in benchmark.clips if any(seen.has(clip) for seen in trained.values())}
    if not known:
        return benchmark, 0
    if len(known) == len(benchmark.clips):
        names = " and ".join(name for name, seen in trained.items() if seen.spans)
        way = "score other clips, or mark some rows as test in a column 'split' and train again"
        raise InputError(f"{benchmark.name}: all of its {len(known)} clips were used to train {names}; {way}")
    splits = (tuple(item for item in items if item.clip not in known) for items in benchmark.splits)
    training = [item for items in benchmark.splits for item in items if item.clip in known]
    what = f"{benchmark.protocol}, without {len(known)} clips that a model was trained on"
    together = tuple(dict.fromkeys((*benchmark.training, *training)))
    rest = replace(benchmark, protocol=what, splits=tuple(filter(None, splits)), training=together)
    return rest, len(known)


def _stacked(benchmark: Benchmark, vectors: Vectors) -> NDArray[np.float32]:
    """Return the vectors of the clips that are scored (N,E)."""
    return np.stack([vectors[item.clip] for split in benchmark.splits for item in split])


def _simple_heads(benchmark: Benchmark, vectors: Vectors, texts: NDArray[np.float32]) -> dict[str, Head]:
    """Learn the labels from the clips for training in the simplest ways, if there are any."""
    items = [item for item in benchmark.training if item.texts[0] in benchmark.labels]
    if not items:
        return {}
    truth = np.array([benchmark.labels.index(item.texts[0]) for item in items])
    clips = np.stack([vectors[item.clip] for item in items])
    return simple_heads(benchmark.labels, texts, clips, truth)


def _with_plain(
    encoders: Sequence[Encoder], heads: Sequence[Head | None], template: str | None
) -> list[Encoder]:
    """Put before the models the plain CLIP of each backbone, unless it is given itself.

    It stands there once for each sentence around the labels: ``template``, or where that is None the models'.
    """

    def key(encoder: Encoder) -> tuple[object, ...]:
        around = prompts_for(["{}"], encoder.files.config, template) if template != "" else ()
        return encoder.files.weights_hash(), encoder.frames, encoder.framing, encoder.files.focus, *around

    both = zip(encoders, heads, strict=True)
    given = {key(e) for e, head in both if e.files.config.stop is None and head is None}
    plain = {key(twin): twin for twin in (encoder.without_prompts() for encoder in encoders)}
    return [*(twin for name, twin in plain.items() if name not in given), *encoders]


def _head(encoder: Encoder, benchmark: Benchmark, template: str | None, notes: list[str]) -> Head | None:
    """Return what a model learned of the labels from clips, if it knows them all; else note why not."""
    if encoder.head is None or benchmark.task == "retrieval":
        return None
    head = encoder.head.of(benchmark.labels, template)
    if head is None:
        new = [label for label in benchmark.labels if not encoder.head.knows(label)]
        why = f"{new[0]!r} is none of its labels" if new else f"that was in {encoder.head.template!r}"
        notes.append(f"{encoder.files.name} is scored by words, not by what it learned: {why}")
    return head


def _names(methods: Sequence[Encoder], heads: Sequence[Head | None]) -> list[str]:
    """Name each method by its prompts; by its model too where several have the same."""
    focus = [f", focus {m.files.focus:g}" if m.files.focus else "" for m in methods]
    kinds = [method_name(m.files.config.stop) + f for m, f in zip(methods, focus, strict=True)]
    named = {kind: {m.files.name for k, m in zip(kinds, methods, strict=True) if k == kind} for kind in kinds}
    return [
        kind + (", head" if head else "") + (f" ({m.files.name})" if len(named[kind]) > 1 else "")
        for kind, m, head in zip(kinds, methods, heads, strict=True)
    ]


def _embed(
    methods: Sequence[Encoder],
    clips: Sequence[Clip],
    progress: Callable[[str], None] | None,
    raw: Vectors | None,
) -> tuple[list[Vectors], dict[Clip, StopError]]:
    """Return for each method the vectors of the clips, and the faults of those that cannot be read.

    ``raw``, if given, gets their reduced pictures.
    """
    shapes = list(dict.fromkeys((m.frames, m.framing) for m in methods))
    vectors: list[Vectors] = [{} for _ in methods]
    faults: dict[Clip, StopError] = {}

    def read(clip: Clip) -> list[list[NDArray[np.uint8]]]:
        path, start, end = clip
        return [[read_frames(path, t, s, start=start, end=end, threads=1).pixels for t, s in shapes]]

    def flush() -> None:
        for method, into in zip(methods, vectors, strict=True):
            shape = shapes.index((method.frames, method.framing))
            pixels = np.stack([frames[shape] for frames in waiting.values()])
            into.update(zip(waiting, method.encode_pixels(pixels), strict=True))
        if raw is not None:
            raw.update((clip, pixel_vector(frames[0])) for clip, frames in waiting.items())
        waiting.clear()

    waiting: dict[Clip, list[NDArray[np.uint8]]] = {}
    size = min(m.batch_size for m in methods)
    for clip, item in prefetch(read, clips):
        if isinstance(item, StopError):
            faults[clip] = item
        else:
            waiting[clip] = item
        if len(waiting) == size:
            flush()
        if progress is not None:
            progress(str(clip[0]))
    if waiting:
        flush()
    return vectors, faults


def _retrieve(
    benchmark: Benchmark, encoder: Encoder, vectors: Vectors, blank: BenchmarkScore
) -> Iterator[BenchmarkScore]:
    (items,) = benchmark.splits
    owner = np.array([i for i, item in enumerate(items) for _ in item.texts])
    videos = np.stack([vectors[item.clip] for item in items])
    captions = [text for item in items for text in item.texts]
    texts = encoder.encode_texts(captions)
    forward, back = caption_ranks(videos, texts, owner, None if benchmark.published else captions)
    seed = blank.provenance["seed"]
    for direction, ranks, groups in (("text-to-video", forward, owner), ("video-to-text", back, None)):
        sure = {
            f"R@{k}": share_interval(ranks <= k, None if groups is None else groups.tolist()) for k in RECALLS
        }
        sure["MnR"] = interval(ranks, groups, seed=seed)
        yield replace(blank, direction=direction, scores=retrieval_scores(ranks), interval=sure)


def _classify(
    benchmark: Benchmark, logits: NDArray[np.float32], blank: BenchmarkScore
) -> tuple[BenchmarkScore, Predictions]:
    """Return the mean of the splits' scores, and the true and the predicted class of every clip.

    ``logits`` (N,C) say how well each clip fits each label.
    """
    classes = {label: i for i, label in enumerate(benchmark.labels)}
    items = [item for split in benchmark.splits for item in split]
    truth = np.array([classes[item.texts[0]] for item in items])
    ranks = label_ranks(logits, truth)
    ends = np.cumsum([len(split) for split in benchmark.splits])[:-1]
    each = [accuracy_scores(part, len(classes)) for part in np.split(ranks, ends)]
    mean = {name: float(np.mean([scores[name] for scores in each])) for name in each[0]}
    groups = [item.group or item.path for item in items]
    sure = {f"top-{k}": share_interval(ranks <= k, groups) for k in tops(len(classes))}
    provenance = blank.provenance | {"splits": [scores["top-1"] for scores in each]}
    score = replace(blank, direction="classification", scores=mean, interval=sure, provenance=provenance)
    return score, (truth, logits.argmax(1))


def published(benchmark: Benchmark, methods: Sequence[Encoder]) -> list[BenchmarkScore]:
    """Return the authors' rows where the protocol and the backbone are the same."""
    if benchmark.name != "msrvtt" or not any("ViT-B-32" in m.files.config.architecture for m in methods):
        return []
    source = {"source": "arXiv 2503.15973", "protocol": benchmark.protocol}
    names = ("R@1", "R@5", "R@10", "MnR")
    rows = ((d, f"{name} (published)", dict(zip(names, row, strict=True))) for d, name, row in PUBLISHED)
    return [BenchmarkScore(name, "msrvtt", d, scores, {}, 1000, 0, True, source) for d, name, scores in rows]
