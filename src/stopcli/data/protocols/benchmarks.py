"""Public video data sets as their papers score them: official annotation files, read as published.

Nothing is downloaded. `load` turns annotation files into what must be answered; `locate` finds the
videos in a folder and names those that are not there.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from stopcli.data.labels import kinetics400
from stopcli.data.protocols.lists import MALFORMED, class_names, lines, listed, stem, words
from stopcli.data.split import units_of
from stopcli.data.table import Clip, Task, read_dataset
from stopcli.errors import BadDataset, FileMissing, UsageError
from stopcli.fileio import exists, is_file, is_folder
from stopcli.video.discovery import find_videos


@dataclass(frozen=True)
class Item:
    """One clip to be scored: the stem of its file, its label or its captions, seconds of it."""

    video: str
    texts: tuple[str, ...]
    start: float | None = None
    end: float | None = None
    path: Path | None = None
    group: str | None = None  # clips of one are alike

    @property
    def clip(self) -> Clip:
        """What is decoded; only after `locate`."""
        assert self.path is not None
        return self.path, self.start, self.end


@dataclass(frozen=True)
class Benchmark:
    """What is to be answered: one list of clips a split; a score is the mean over the splits."""

    name: str
    protocol: str
    task: Task
    splits: tuple[tuple[Item, ...], ...]
    labels: tuple[str, ...] = ()
    training: tuple[Item, ...] = ()  # labelled clips that are not scored
    published: bool = True  # scored as its paper does; otherwise a table of one's own

    @property
    def clips(self) -> tuple[Clip, ...]:
        """What must be decoded, each once; only after `locate`."""
        return tuple(dict.fromkeys(item.clip for items in self.splits for item in items))


Splits = list[list[Item]]
Labels = Sequence[str] | None  # None in retrieval
Reader = Callable[[Sequence[Path]], tuple[Splits, Labels]]


@dataclass(frozen=True)
class DatasetSpec:
    """A data set that has a name: the files published with it, and how papers score it."""

    annotations: str
    protocol: str  # {} is the number of splits
    read: Reader


DATASETS: dict[str, DatasetSpec] = {}


def _published(name: str, annotations: str, protocol: str) -> Callable[[Reader], Reader]:
    """Make a function the reader of a data set."""

    def register(read: Reader) -> Reader:
        DATASETS[name] = DatasetSpec(annotations, protocol, read)
        return read

    return register


def load(dataset: str, annotations: Sequence[Path]) -> Benchmark:
    """Return what a data set asks: one of `DATASETS`, or a table as `stopcli.data.table` reads it.

    ``annotations`` are the files published with the data set, or the folder that holds them.

    Raises:
        UsageError: no such name. FileMissing: no annotations. BadDataset: they are not what was
            published, or the table has faults.
    """
    name = dataset.lower()
    spec = DATASETS.get(name)
    if spec is None:
        return _own_table(own_table(dataset, DATASETS))
    files = find_files(annotations)
    if not files:
        raise FileMissing(f"{dataset}: no annotations given; --annotations wants {spec.annotations}")
    try:
        splits, labels = spec.read(files)
        for item in chain.from_iterable(splits):
            if labels is not None and item.texts[0] not in labels:
                label = item.texts[0]
                raise ValueError(f"{item.video} has the label {label!r}, none of the {len(labels)} classes")
    except MALFORMED as error:
        title = spec.protocol.partition(":")[0]
        raise BadDataset(
            f"{files[0]}: not as {title} is published ({error}); expected {spec.annotations}"
        ) from error
    if not any(splits):
        names = ", ".join(f.name for f in files[:3])
        raise BadDataset(f"{names}: nothing to score in it; expected {spec.annotations}")
    task: Task = "retrieval" if labels is None else "classification"
    protocol = spec.protocol.format(len(splits))
    return Benchmark(name, protocol, task, tuple(map(tuple, splits)), tuple(labels or ()))


def own_table(dataset: str, named: Collection[str]) -> Path:
    """Return the file that is named where a data set's name could be, or raise FileMissing or UsageError."""
    if exists(dataset):
        return Path(dataset)
    if Path(dataset).suffix or "/" in dataset:
        raise FileMissing(f"{dataset}: no such file")
    close = difflib.get_close_matches(dataset.lower(), named, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UsageError(f"no data set {dataset!r}; {hint}Use one of {', '.join(named)}, or a table of your own")


def find_files(annotations: Sequence[Path]) -> list[Path]:
    """Return the files that are named, and those in folders; raises FileMissing for one that is not there."""
    inside = [_visible(given) if is_folder(given) else [given] for given in annotations]
    files = list(chain.from_iterable(inside))
    if missing := [f for f in files if not exists(f)]:
        raise FileMissing(
            f"{missing[0]}: no such file; --annotations names files as published, or their folder"
        )
    return [f for f in files if is_file(f)]


def _visible(folder: Path) -> list[Path]:
    """Return what is in a folder, without what file managers hide there."""
    found = folder.rglob("*")
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def locate(benchmark: Benchmark, folder: Path | None) -> tuple[Benchmark, tuple[str, ...]]:
    """Return the benchmark with the clips that are there, and the names of the videos that are not.

    A video is found by its name without suffix, anywhere below the folder. UsageError: the benchmark does
    not say where its videos are, and no folder is given.
    """
    if folder is None:
        if any(item.path is None for items in benchmark.splits for item in items):
            raise UsageError(f"--videos is needed: the folder with the videos of {benchmark.name}")
        return benchmark, ()
    if not is_folder(folder):
        raise FileMissing(f"{folder}: no such folder; --videos names where the videos lie")
    videos: dict[str, Path] = {}
    for path in find_videos([folder]):
        videos.setdefault(path.stem, path)
    missing: dict[str, None] = {}
    splits = []
    for items in benchmark.splits:
        placed = [replace(item, path=item.path or videos.get(item.video)) for item in items]
        missing.update(dict.fromkeys(item.video for item in placed if item.path is None))
        splits.append(tuple(item for item in placed if item.path is not None))
    if not any(splits):
        raise FileMissing(
            f"{folder}: none of the {len(missing)} videos of {benchmark.name} is there, "
            f"such as {next(iter(missing))}"
        )
    return replace(benchmark, splits=tuple(splits)), tuple(missing)


def _retrieval(captions: Mapping[str, Sequence[str]]) -> tuple[Splits, Labels]:
    return [[Item(video, tuple(texts)) for video, texts in captions.items() if texts]], None


@_published("msrvtt", "MSRVTT_JSFUSION_test.csv", "MSR-VTT 1k-A (JSFusion): one caption a video")
def _msrvtt(files: Sequence[Path]) -> tuple[Splits, Labels]:
    captions = defaultdict[str, list[str]](list)
    for row in _csv(files):
        captions[row["video_id"]].append(row["sentence"])
    return _retrieval(captions)


@_published("msvd", "test_list.txt and AllVideoDescriptions.txt", "MSVD test: every caption is a query")
def _msvd(files: Sequence[Path]) -> tuple[Splits, Labels]:
    lists = [f for f in files if "list" in f.stem]
    described = [f for f in files if f not in lists and f.suffix == ".txt"]
    if not lists or not described:
        raise ValueError("a list of the test videos and the descriptions are needed")
    captions: dict[str, list[str]] = {video: [] for video in lines(_called(lists, "test"))}
    for line in lines(described[0]):
        video, _, text = line.partition(" ")
        if video in captions and text:
            captions[video].append(text)
    return _retrieval(captions)


@_published("activitynet", "val_1.json", "ActivityNet Captions val_1: paragraph to video")
def _activitynet(files: Sequence[Path]) -> tuple[Splits, Labels]:
    published = _json(_one(files, ".json")).items()
    return _retrieval(
        {video.removesuffix(".mp4"): [" ".join(s.strip() for s in v["sentences"])] for video, v in published}
    )


@_published("didemo", "test_data.json", "DiDeMo test: all descriptions of a video as one paragraph")
def _didemo(files: Sequence[Path]) -> tuple[Splits, Labels]:
    captions = defaultdict[str, list[str]](list)
    for entry in _json(_one(files, ".json")):
        captions[stem(entry["video"])].append(entry["description"].strip())
    return _retrieval({video: [" ".join(texts)] for video, texts in captions.items()})


@_published("vatex", "its JSON, and a .txt of the test videos", "VATEX: every English caption is a query")
def _vatex(files: Sequence[Path]) -> tuple[Splits, Labels]:
    lists = [f for f in files if f.suffix == ".txt"]
    captions = {entry["videoID"]: entry["enCap"] for entry in _json(_one(files, ".json"))}
    wanted = set(lines(_called(lists, "test"))) if lists else set(captions)
    return _retrieval({video: texts for video, texts in captions.items() if video in wanted})


def _of_lists(files: Sequence[Path]) -> tuple[Splits, Labels]:
    lists, names = listed(files)
    return [[Item(video, (label,)) for video, label in clips] for clips in lists], names


@_published("hmdb51", "the folder testTrainMulti_7030_splits", "HMDB51: mean of {} official test split(s)")
def _hmdb51(files: Sequence[Path]) -> tuple[Splits, Labels]:
    official = defaultdict[str, list[Item]](list)
    labels: dict[str, None] = {}
    for file in files:
        if match := re.fullmatch(r"(.+)_test_split([123])", file.stem):
            label = words(match[1])
            labels[label] = None
            for line in lines(file):
                video, _, use = line.rpartition(" ")
                if use == "2":
                    official[match[2]].append(Item(stem(video.strip()), (label,)))
    return ([official[k] for k in sorted(official)], list(labels)) if official else _of_lists(files)


@_published("ucf101", "classInd.txt and testlist01.txt to 03", "UCF101: mean of {} official test split(s)")
def _ucf101(files: Sequence[Path]) -> tuple[Splits, Labels]:
    splits = []
    for file in sorted((f for f in files if re.fullmatch(r".*testlist\d+", f.stem)), key=lambda f: f.stem):
        rows = [line.split()[0].split("/") for line in lines(file)]
        splits.append([Item(stem(video), (words(label),)) for label, video in rows])
    return splits, class_names(files)


@_published("ssv2", "its -validation.json and its -labels.json", "Something-Something v2 validation")
def _ssv2(files: Sequence[Path]) -> tuple[Splits, Labels]:
    published = {f: _json(f) for f in files if f.suffix == ".json"}
    clips = [f for f, value in published.items() if isinstance(value, list)]
    names = next(
        (sorted(v, key=lambda k: int(v[k])) for v in published.values() if isinstance(v, dict)), None
    )
    if not clips or names is None:
        return _of_lists(files)
    entries = published[_called(clips, "validation")]
    return [[Item(str(e["id"]), (re.sub(r"[\[\]]", "", e["template"]),)) for e in entries]], names


@_published("kinetics400", "the validation CSV with label, youtube_id", "Kinetics-400 validation")
def _kinetics400(files: Sequence[Path]) -> tuple[Splits, Labels]:
    rows = _csv(files) if any(f.suffix == ".csv" for f in files) else []
    if len(files) > 1 and (not rows or "youtube_id" not in rows[0]):
        return _of_lists(files)  # a CSV among them names the labels
    items = [
        Item(f"{r['youtube_id']}_{int(r['time_start']):06d}_{int(r['time_end']):06d}", (r["label"],))
        for r in rows
    ]
    return [items], kinetics400()


def _own_table(path: Path) -> Benchmark:
    """Score a table of one's own: its test rows, else those for validation, else all.

    No row need be for training: classes are those of all rows.
    """
    data = read_dataset(path)
    data.require_sound("nothing was scored; fix these rows")
    split = next((s for s in ("test", "val") if data.of(s)), None)
    labels = tuple(sorted({r.text for r in data.rows})) if data.task == "classification" else ()
    if labels and len(labels) < 2:
        raise BadDataset(f"{path}: two or more labels are needed to choose between, found {labels[0]!r} only")
    texts = defaultdict[Clip, list[str]](list)
    rows = data.of(split) if split else data.rows
    groups = dict(zip((row.clip for row in rows), units_of(rows), strict=True))
    for row in rows:
        texts[row.clip].append(row.text)
    items = tuple(Item(c[0].stem, tuple(t), c[1], c[2], c[0], groups[c]) for c, t in texts.items())
    training = tuple(Item(r.path.stem, (r.text,), r.start, r.end, r.path) for r in data.of("train") if split)
    what = f"{path.name}: {split or 'all'} rows"
    return Benchmark(path.name, what, data.task, (items,), labels, training, published=False)


def _called(files: Sequence[Path], word: str) -> Path:
    """Return the file whose name says what it is for, or the only one."""
    matches = [f for f in files if word in f.stem.lower()] or files
    if len(matches) != 1:
        raise ValueError(f"which one is for {word}: {', '.join(f.name for f in matches)}?")
    return matches[0]


def _one(files: Sequence[Path], suffix: str) -> Path:
    matches = [f for f in files if f.suffix == suffix]
    if len(matches) != 1:
        raise ValueError(f"one {suffix} file is needed, found {len(matches)}")
    return matches[0]


def _csv(files: Sequence[Path]) -> list[dict[str, str]]:
    with _one(files, ".csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    short = next((i for i, row in enumerate(rows, 1) if None in row.values()), None)
    if short is not None:
        raise ValueError(f"row {short} has too few cells")
    return rows


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
