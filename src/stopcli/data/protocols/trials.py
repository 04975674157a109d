"""The papers' protocols that train: few shots of each class; base classes trained on, novel ones asked for.

Split files are read as ViFi-CLIP and TC-CLIP lay them out (lines of ``file number``, labels of ``id,name``),
or as HMDB51 and UCF101 are published; a table of one's own is divided here. Nothing is bundled or downloaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from stopcli.data.protocols.benchmarks import Benchmark, Item, find_files, locate, own_table
from stopcli.data.protocols.lists import ASKED, MALFORMED, TRAIN, class_lists, lines, stem, words
from stopcli.data.split import few_shots, with_validation
from stopcli.data.table import Dataset, Row, read_dataset
from stopcli.errors import BadDataset, FileMissing

Kind = Literal["few-shot", "base-to-novel"]
NAMED = ("hmdb51", "ucf101", "ssv2", "kinetics400")
LAYOUTS = {
    "few-shot": "train1_few_shot_K.txt for each K (or train1.txt, or official lists), val1.txt, and labels",
    "base-to-novel": "fs_base_s1_train.txt (s2, s3), base_val.txt, novel_val.txt, and the labels of both",
}


class Trial(NamedTuple):
    """One model to train: on so many clips of each class, drawn by a seed."""

    shots: int
    seed: int
    training: tuple[Item, ...]


class Test(NamedTuple):
    """What a trained model is asked: which of the labels each clip has."""

    labels: tuple[str, ...]
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Protocol:
    """What is trained and asked.

    The tests are ``test``, or ``base`` and ``novel``; the labels of the first are those of training.
    """

    dataset: str
    kind: Kind
    description: str
    trials: tuple[Trial, ...]
    tests: dict[str, Test]

    @property
    def items(self) -> list[Item]:
        """Return every clip of it."""
        parts = [*(t.training for t in self.trials), *(t.items for t in self.tests.values())]
        return list(dict.fromkeys(item for part in parts for item in part))


def load_protocol(
    kind: Kind, dataset: str, annotations: Sequence[Path], shots: Sequence[int], seeds: Sequence[int]
) -> Protocol:
    """Return what a protocol trains and asks on a data set: one of `NAMED`, or a table.

    Raises:
        UsageError: no such name. FileMissing: no annotations. BadDataset: they are not as `LAYOUTS` says, or
            the table is not for labels.
    """
    name = dataset.lower()
    if name not in NAMED:
        return _of_table(kind, own_table(dataset, NAMED), shots, seeds)
    files = find_files(annotations)
    if not files:
        raise FileMissing(f"{dataset}: no annotations given; --annotations wants {LAYOUTS[kind]}")
    try:
        read = _few_shot if kind == "few-shot" else _base_to_novel
        return read(name, files, shots, seeds)
    except MALFORMED as error:
        raise BadDataset(f"{files[0].parent}: {error}; expected {LAYOUTS[kind]}") from error


def locate_protocol(protocol: Protocol, videos: Path | None) -> tuple[Protocol, tuple[str, ...]]:
    """Return the protocol with the clips that are there, and the names of the videos that are not."""
    every = Benchmark(protocol.dataset, "", "classification", (tuple(protocol.items),))
    placed, missing = locate(every, videos)
    there = {replace(item, path=None): item for item in placed.splits[0]} if videos else {}

    def find(items: Iterable[Item]) -> tuple[Item, ...]:
        return tuple(there[i] for i in items if i in there) if videos else tuple(items)

    trials = tuple(t._replace(training=find(t.training)) for t in protocol.trials)
    tests = {name: test._replace(items=find(test.items)) for name, test in protocol.tests.items()}
    return replace(protocol, trials=trials, tests=tests), missing


def require_whole(protocol: Protocol) -> None:
    """Raise BadDataset where a class has no clip to train on, or nothing is asked."""
    first = next(iter(protocol.tests.values()))
    for trial in protocol.trials:
        lacking = sorted(set(first.labels) - {item.texts[0] for item in trial.training})
        if lacking:
            found = f"{trial.shots} shots, seed {trial.seed}: no clip to train on of {lacking[0]!r}"
            more = f" and {len(lacking) - 1} more classes" if len(lacking) > 1 else ""
            raise BadDataset(f"{protocol.dataset}: {found}{more}; are all videos there?")
    for name, test in protocol.tests.items():
        if not test.items:
            raise BadDataset(f"{protocol.dataset}: no clip of the {name} classes can be scored")


def _few_shot(name: str, files: Sequence[Path], shots: Sequence[int], seeds: Sequence[int]) -> Protocol:
    labels = _labels(files)
    drawn = {int(m[1]): f for f in files if (m := re.fullmatch(r".*few_?shot_(\d+)", f.stem))}
    official = _hmdb51(files) if any(re.fullmatch(r".+_test_split1", f.stem) for f in files) else None
    if not labels and not official:
        raise ValueError("no list of labels, with lines of id,name")
    full = official["train"] if official else _items(_one(files, TRAIN), labels)
    test = official["test"] if official else _items(_one(files, ASKED), labels)
    if official:
        labels = tuple(dict.fromkeys(item.texts[0] for item in test))
    trials = []
    for count in shots:
        listed = _items(drawn[count], labels) if count in drawn else ()
        if not (listed or full):
            known = ", ".join(map(str, sorted(drawn))) or "none"
            raise ValueError(f"no list of {count} clips a class (there are lists of {known})")
        trials += [Trial(count, seed, listed or _drawn(full, count, seed)) for seed in seeds]
    if not test:
        raise ValueError("no list of clips to score")
    what = f"few shots: top-1 of {len(test)} clips, {len(labels)} classes"
    return Protocol(name, "few-shot", what, tuple(trials), {"test": Test(labels, test)})


def _base_to_novel(name: str, files: Sequence[Path], _: Sequence[int], seeds: Sequence[int]) -> Protocol:
    """Read lists that fix how many clips of a class are trained on."""
    tests: dict[str, Test] = {}
    for part in ("base", "novel"):
        labels = _labels([f for f in files if part in f.stem])
        if not labels:
            raise ValueError(f"no list of {part} labels, with lines of id,name")
        tests[part] = Test(labels, _items(_one(files, rf"(.*_)?{part}_val"), labels))
        if not tests[part].items:
            raise ValueError(f"no list {part}_val.txt")
    trials = []
    for seed in seeds:
        items = _items(_one(files, rf"fs_base_s{seed}_train(_prefix)?"), tests["base"].labels)
        if not items:
            raise ValueError(f"no list fs_base_s{seed}_train.txt for seed {seed}")
        trials.append(Trial(max(Counter(i.texts[0] for i in items).values()), seed, items))
    return Protocol(name, "base-to-novel", _base_words(tests), tuple(trials), tests)


def _base_words(tests: dict[str, Test]) -> str:
    base, novel = (
        f"{len(tests[n].labels)} {n} classes ({len(tests[n].items)} clips)" for n in ("base", "novel")
    )
    return f"base to novel: trained on {base}, asked for {novel} too; each choice is within its own classes"


def _of_table(kind: Kind, path: Path, shots: Sequence[int], seeds: Sequence[int]) -> Protocol:
    """Divide a table: its test rows are asked, else those for validation, else a fifth of the clips."""
    data = read_dataset(path)
    data.require_sound("nothing was trained; fix these rows")
    if data.task != "classification":
        raise BadDataset(f"{path}: has captions; {kind} needs labels")
    asked = next((s for s in ("test", "val") if data.of(s)), None)
    if asked is None:
        data, asked = with_validation(data, 0), "val"
    rows = {"train": data.of("train"), "test": data.of(asked)}
    classes = [label for label, _ in Counter(r.text for r in data.rows).most_common()]
    if len(classes) < (2 if kind == "few-shot" else 4):
        raise BadDataset(
            f"{path}: has {len(classes)} labels; {kind} needs at least {2 if kind == 'few-shot' else 4}"
        )
    base = classes if kind == "few-shot" else classes[: (len(classes) + 1) // 2]
    parts = {"test": base} if kind == "few-shot" else {"base": base, "novel": classes[len(base) :]}
    tests = {
        name: Test(tuple(sorted(labels)), tuple(_item(r) for r in rows["test"] if r.text in labels))
        for name, labels in parts.items()
    }
    trainable = replace(data, rows=tuple(r for r in rows["train"] if r.text in base))
    sizes = Counter(r.text for r in trainable.rows)
    shots = list(dict.fromkeys(min(count, max(sizes.values(), default=count)) for count in shots))
    trials = [
        Trial(count, seed, tuple(map(_item, few_shots(trainable, count, seed).rows)))
        for count in shots
        for seed in seeds
    ]
    what = ""
    if kind == "few-shot":
        what = f"few shots: top-1 of {len(tests['test'].items)} clips, {len(base)} classes"
        few, count = min(sizes.items(), key=lambda item: item[1], default=("", 0))
        what += f"; {few!r} has {count} clips to train on" if count < max(shots) else ""
    return Protocol(path.name, kind, what or _base_words(tests), tuple(trials), tests)


def _item(row: Row) -> Item:
    return Item(row.path.stem, (row.text,), row.start, row.end, row.path)


def _drawn(items: Sequence[Item], count: int, seed: int) -> tuple[Item, ...]:
    rows = tuple(Row(n, Path(i.video), i.texts[0], split="train") for n, i in enumerate(items))
    kept = few_shots(Dataset(Path(), "classification", rows), count, seed).rows
    return tuple(items[row.number] for row in kept)


def _one(files: Sequence[Path], pattern: str) -> Path | None:
    """Return the list whose name is like that, if there is one; ValueError for several."""
    matches = [f for f in files if f.suffix == ".txt" and re.fullmatch(pattern, f.stem)]
    if len(matches) > 1:
        raise ValueError(
            f"{matches[0].name} and {matches[1].name} could both be meant; name one folder or file"
        )
    return matches[0] if matches else None


def _labels(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the class names in the order of their numbers; the whole list where there are several."""
    found = class_lists(files)
    return tuple(sorted(found, key=len)[-1]) if found else ()


def _items(file: Path | None, labels: Sequence[str]) -> tuple[Item, ...]:
    """Read lines of ``file number``, or of ``Class/file`` with or without a number."""
    if file is None:
        return ()
    items = []
    for line in lines(file):
        video, _, number = line.rpartition(" ")
        if not number.isdecimal():
            video, number = line, ""
        folder = words(video.rpartition("/")[0].rpartition("/")[2])
        if folder in labels:
            label = folder
        elif number and int(number) < len(labels):
            label = labels[int(number)]
        else:
            what = f"number {number}" if number else "no number"
            raise ValueError(
                f"{file.name}: {line[:60]!r} has {what}; there are {len(labels)} classes, from 0 on"
            )
        items.append(Item(stem(video.strip()), (label,)))
    return tuple(items)


def _hmdb51(files: Sequence[Path]) -> dict[str, tuple[Item, ...]]:
    """Read the first official split of HMDB51: 1 is for training, 2 for the test."""
    parts: dict[str, list[Item]] = {"1": [], "2": []}
    for file in files:
        if match := re.fullmatch(r"(.+)_test_split1", file.stem):
            for line in lines(file):
                video, _, use = line.rpartition(" ")
                if use in parts:
                    parts[use].append(Item(stem(video.strip()), (words(match[1]),)))
    return {"train": tuple(parts["1"]), "test": tuple(parts["2"])}
