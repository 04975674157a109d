"""A data set laid out as ViFi-CLIP lays out HMDB51: ``python -m training.protocols.layout OUT``.

Clips of mini's generated world: eight objects, three motions each. Half of the objects are in base classes,
the others in novel ones. Writes OUT/videos, OUT/few-shot (train1_few_shot_K.txt, val1.txt, labels) and
OUT/base-to-novel (fs_base_s1_train.txt and so on). The clips for scoring have backgrounds of their own.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from training.world.clips import Clip, render
from training.world.files import write_files
from training.world.vocabulary import caption

BASE, NOVEL = ("a dog", "a car", "an owl", "a guitar"), ("a cat", "a bus", "a frog", "a robot")
MOTIONS = ("left", "up", "closer")
SHOTS, SEEDS = (2, 4, 8, 16), (1, 2, 3)
TRAIN, TEST = 40, 12  # clips of each class


def main() -> None:
    """Render the clips and write the lists."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    pairs = {
        "base": [(o, m) for o in BASE for m in MOTIONS],
        "novel": [(o, m) for o in NOVEL for m in MOTIONS],
    }
    jobs, train, val = {}, {}, {}
    for part, classes in pairs.items():
        for number, (obj, motion) in enumerate(classes):
            label = caption(obj, motion)
            name = label.replace(" ", "_")
            for kind, count, into in (("train", TRAIN if part == "base" else 0, train), ("val", TEST, val)):
                files = [f"{name}_{kind}_{i}.mp4" for i in range(count)]
                into[part, number] = files
                for i, file in enumerate(files):
                    seed = 9_000_000 + 1000 * (number + 100 * (part == "novel")) + i + 500 * (kind == "val")
                    jobs[args.out / "videos" / file] = partial(
                        render, Clip(seed, obj, motion, test=kind == "val")
                    )
    (args.out / "videos").mkdir(parents=True, exist_ok=True)
    write_files(jobs, args.workers)
    names = {part: [caption(*pair).replace(" ", "_") for pair in classes] for part, classes in pairs.items()}
    few, b2n = args.out / "few-shot", args.out / "base-to-novel"
    write_labels(few / "hmdb_51_labels.csv", names["base"])
    write_list(few / "val1.txt", {n: val["base", n] for n in range(len(names["base"]))})
    for shots in SHOTS:
        write_list(few / f"train1_few_shot_{shots}.txt", drawn(train, shots, 0))
    for part in pairs:
        write_labels(b2n / f"hmdb_51_{part}_labels.csv", names[part])
        write_list(b2n / f"{part}_val.txt", {n: val[part, n] for n in range(len(names[part]))})
    for seed in SEEDS:
        write_list(b2n / f"fs_base_s{seed}_train.txt", drawn(train, max(SHOTS), seed))


def drawn(train: dict[tuple[str, int], list[str]], shots: int, seed: int) -> dict[int, list[str]]:
    """Draw so many clips of each base class."""
    rng = np.random.default_rng(seed)
    base = {number: files for (part, number), files in train.items() if part == "base"}
    return {n: [files[i] for i in rng.permutation(len(files))[:shots]] for n, files in base.items()}


def write_list(path: Path, classes: dict[int, list[str]]) -> None:
    """Write lines of ``file number``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{file} {number}\n" for number, files in classes.items() for file in files))


def write_labels(path: Path, names: list[str]) -> None:
    """Write lines of ``id,name``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("id,name\n" + "".join(f"{number},{name}\n" for number, name in enumerate(names)))


if __name__ == "__main__":
    main()
