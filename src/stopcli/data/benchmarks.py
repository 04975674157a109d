"""Public video data sets as their papers score them: official annotation files, read as published.

Nothing is downloaded. `load` turns annotation files into what must be answered; `locate` finds the
videos in a folder and names those that are not there.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stopcli.data.labels import kinetics400
from stopcli.data.table import read_dataset
from stopcli.errors import BadDataset, FileMissing, UsageError
from stopcli.video.discovery import find_videos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stopcli.data.table import Clip, Task


@dataclass(frozen=True)
class Item:
    """One clip to be scored: the stem of its file, its label or its captions, seconds of it."""

    video: str
    texts: tuple[str, ...]
    start: float | None = None
    end: float | None = None
    path: Path | None = None

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

    @property
    def clips(self) -> tuple[Clip, ...]:
        """What must be decoded, each once; only after `locate`."""
        return tuple(dict.fromkeys(item.clip for items in self.splits for item in items))


@dataclass(frozen=True)
class DatasetSpec:
    """A data set that has a name."""

    name: str
    title: str
    annotations: str
    """Which files, as published."""
    read: Callable[[Sequence[Path]], Benchmark]


def load(dataset: str, annotations: Sequence[Path]) -> Benchmark:
    """Return what a data set asks.

    Args:
        dataset: a name of `DATASETS`, or a table as `stopcli.data.table` reads it.
        annotations: the files published with the data set, or the folder that holds them.

    Raises:
        UsageError: no such name. FileMissing: no annotations. BadDataset: they are not what was
            published, or the table has faults.
    """
    spec = DATASETS.get(dataset.lower())
    if spec is None:
        if Path(dataset).exists():
            return _own_table(Path(dataset))
        close = difflib.get_close_matches(dataset.lower(), DATASETS, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(
            f"no data set {dataset!r}; {hint}Use one of {', '.join(DATASETS)}, or a CSV of your own"
        )
    files = [f for given in annotations for f in (sorted(given.rglob("*")) if given.is_dir() else [given])]
    missing = [f for f in files if not f.exists()]
    if missing or not files:
        problem = f"{missing[0]}: no such file" if missing else f"{dataset}: no annotations given"
        raise FileMissing(f"{problem}; --annotations wants {spec.annotations}")
    try:
        benchmark = spec.read([f for f in files if f.is_file()])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise BadDataset(
            f"{files[0]}: not as {spec.title} publishes it ({error}); expected {spec.annotations}"
        ) from error
    if not any(benchmark.splits):
        names = ", ".join(f.name for f in files[:3])
        raise BadDataset(f"{names}: nothing to score in it; expected {spec.annotations}")
    return benchmark


def locate(benchmark: Benchmark, folder: Path | None) -> tuple[Benchmark, tuple[str, ...]]:
    """Return the benchmark with the clips that are there, and the names of the videos that are not.

    A video is found by its name without suffix, anywhere below the folder.
    """
    if folder is None:
        return benchmark, ()
    if not folder.is_dir():
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


# ----------------------------------------------------------------------------------- retrieval


def _retrieval(name: str, protocol: str, captions: dict[str, list[str]]) -> Benchmark:
    items = tuple(Item(video, tuple(texts)) for video, texts in captions.items() if texts)
    return Benchmark(name, protocol, "retrieval", (items,))


def _msrvtt(files: Sequence[Path]) -> Benchmark:
    captions: dict[str, list[str]] = {}
    with _one(files, ".csv").open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            captions.setdefault(row["video_id"], []).append(row["sentence"])
    return _retrieval("msrvtt", "MSR-VTT 1k-A (JSFusion): one caption a video", captions)


def _msvd(files: Sequence[Path]) -> Benchmark:
    lists = [f for f in files if "list" in f.stem]
    described = [f for f in files if f not in lists and f.suffix == ".txt"]
    if not lists or not described:
        raise ValueError("a list of the test videos and the descriptions are needed")
    wanted = dict.fromkeys(_lines(lists[0]))
    captions: dict[str, list[str]] = {video: [] for video in wanted}
    for line in _lines(described[0]):
        video, _, text = line.partition(" ")
        if video in captions and text:
            captions[video].append(text)
    return _retrieval("msvd", "MSVD test: every caption is a query", captions)


def _activitynet(files: Sequence[Path]) -> Benchmark:
    published = _json(_one(files, ".json"))
    captions = {
        video.removesuffix(".mp4"): [" ".join(s.strip() for s in v["sentences"])]
        for video, v in published.items()
    }
    return _retrieval("activitynet", "ActivityNet Captions val_1: paragraph to video", captions)


def _didemo(files: Sequence[Path]) -> Benchmark:
    joined: dict[str, list[str]] = {}
    for entry in _json(_one(files, ".json")):
        joined.setdefault(_stem(entry["video"]), []).append(entry["description"].strip())
    captions = {video: [" ".join(texts)] for video, texts in joined.items()}
    return _retrieval("didemo", "DiDeMo test: all descriptions of a video as one paragraph", captions)


def _vatex(files: Sequence[Path]) -> Benchmark:
    lists = [f for f in files if f.suffix == ".txt"]
    wanted = set(_lines(lists[0])) if lists else None
    captions = {
        entry["videoID"]: list(entry["enCap"])
        for entry in _json(_one(files, ".json"))
        if wanted is None or entry["videoID"] in wanted
    }
    return _retrieval("vatex", "VATEX: every English caption is a query", captions)


# ------------------------------------------------------------------------------ classification


def _classification(
    name: str, protocol: str, splits: Sequence[Sequence[tuple[str, str]]], labels: Sequence[str]
) -> Benchmark:
    places = set(labels)
    for items in splits:
        for video, label in items:
            if label not in places:
                raise ValueError(
                    f"{video} has the label {label!r}, which is none of the {len(labels)} classes"
                )
    clips = tuple(tuple(Item(video, (label,)) for video, label in items) for items in splits)
    return Benchmark(name, protocol, "classification", clips, tuple(labels))


def _listed(files: Sequence[Path]) -> tuple[list[list[tuple[str, str]]], list[str]]:
    """Read lists of ``file number`` beside a list of class names, as research code keeps them."""
    names = _class_names(files)
    splits = []
    for file in files:
        rows = [line.rsplit(" ", 1) for line in _lines(file)]
        if rows and all(len(r) == 2 and r[1].isdigit() and re.search(r"\.\w{2,4}$", r[0]) for r in rows):
            splits.append([(_stem(video), names[int(number)]) for video, number in rows])
    return splits, names


def _class_names(files: Sequence[Path]) -> list[str]:
    file = next(
        (f for f in files if re.search(r"label|class", f.stem, re.IGNORECASE) and f.suffix == ".txt"), None
    )
    if file is None:
        raise ValueError("a list of the class names is needed, such as classInd.txt or label_map.txt")
    return [_words(re.sub(r"^\d+ ", "", line)) for line in _lines(file)]


def _hmdb51(files: Sequence[Path]) -> Benchmark:
    official: dict[str, list[tuple[str, str]]] = {}
    labels: dict[str, None] = {}
    for file in files:
        match = re.fullmatch(r"(.+)_test_split([123])", file.stem)
        if match is None:
            continue
        label = _words(match[1])
        labels[label] = None
        for line in _lines(file):
            video, _, use = line.rpartition(" ")
            if use.strip() == "2":
                official.setdefault(match[2], []).append((_stem(video.strip()), label))
    if official:
        splits, names = [official[k] for k in sorted(official)], list(labels)
    else:
        splits, names = _listed(files)
    return _classification("hmdb51", f"HMDB51: mean of {len(splits)} official test split(s)", splits, names)


def _ucf101(files: Sequence[Path]) -> Benchmark:
    names = _class_names(files)
    lists = sorted((f for f in files if re.fullmatch(r".*testlist\d+", f.stem)), key=lambda f: f.stem)
    splits = []
    for file in lists:
        rows = [line.split()[0].split("/") for line in _lines(file)]
        splits.append([(_stem(video), _words(label)) for label, video in rows])
    return _classification("ucf101", f"UCF101: mean of {len(splits)} official test split(s)", splits, names)


def _ssv2(files: Sequence[Path]) -> Benchmark:
    title = "Something-Something v2 validation"
    published = [_json(f) for f in files if f.suffix == ".json"]
    entries = next((v for v in published if isinstance(v, list)), None)
    names = next((sorted(v, key=lambda k: int(v[k])) for v in published if isinstance(v, dict)), None)
    if entries is not None and names is not None:
        items = [(str(e["id"]), re.sub(r"[\[\]]", "", e["template"])) for e in entries]
        return _classification("ssv2", title, [items], names)
    splits, listed = _listed(files)
    return _classification("ssv2", title, splits, listed)


def _kinetics400(files: Sequence[Path]) -> Benchmark:
    title = "Kinetics-400 validation"
    if any(f.suffix == ".csv" for f in files):
        with _one(files, ".csv").open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
        items = [
            (f"{r['youtube_id']}_{int(r['time_start']):06d}_{int(r['time_end']):06d}", r["label"])
            for r in rows
        ]
        return _classification("kinetics400", title, [items], kinetics400())
    splits, names = _listed(files)
    return _classification("kinetics400", title, splits, names)


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
    texts: dict[Clip, list[str]] = {}
    for row in data.of(split) if split else data.rows:
        texts.setdefault(row.clip, []).append(row.text)
    items = tuple(Item(p.stem, tuple(t), start, end, p) for (p, start, end), t in texts.items())
    return Benchmark(path.name, f"{path.name}: {split or 'all'} rows", data.task, (items,), labels)


def _one(files: Sequence[Path], suffix: str) -> Path:
    matches = [f for f in files if f.suffix == suffix]
    if len(matches) != 1:
        raise ValueError(f"one {suffix} file is needed, found {len(matches)}")
    return matches[0]


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _lines(file: Path) -> Iterator[str]:
    for line in file.read_text(encoding="utf-8-sig").splitlines():
        if line.strip():
            yield line.strip()


def _stem(name: str) -> str:
    return re.sub(r"\.\w{2,4}$", "", name.rpartition("/")[2])


def _words(name: str) -> str:
    """Turn ``brush_hair`` or ``BrushHair`` into ``brush hair``."""
    if " " in name:
        return name
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).lower() if re.search(r"[A-Z_]", name) else name


DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec("msrvtt", "MSR-VTT 1k-A", "MSRVTT_JSFUSION_test.csv", _msrvtt),
        DatasetSpec("msvd", "MSVD", "test_list.txt and AllVideoDescriptions.txt", _msvd),
        DatasetSpec("activitynet", "ActivityNet Captions", "val_1.json", _activitynet),
        DatasetSpec("didemo", "DiDeMo", "test_data.json", _didemo),
        DatasetSpec("vatex", "VATEX", "a JSON with videoID and enCap, and a .txt of the test videos", _vatex),
        DatasetSpec("hmdb51", "HMDB51", "the folder testTrainMulti_7030_splits", _hmdb51),
        DatasetSpec("ucf101", "UCF101", "classInd.txt and testlist01.txt to testlist03.txt", _ucf101),
        DatasetSpec("ssv2", "Something-Something v2", "its -validation.json and its -labels.json", _ssv2),
        DatasetSpec("kinetics400", "Kinetics-400", "the validation CSV with label, youtube_id", _kinetics400),
    )
}
