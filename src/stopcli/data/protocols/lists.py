"""Lists of clips and of class names, as research code keeps them beside its videos."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

PART = r"_(temporal|static)\d+"  # TC-CLIP's classes that need time to tell, and those that do not
TRAIN = rf"train(list)?(0?1)?|train{PART}"
ASKED = rf"val1?|validation|test(list)?(0?1)?|val(idation)?{PART}"
SCORED = rf"val\d?|validation|test(list)?\d{{0,2}}|val(idation)?{PART}"  # of any number of splits
LEARNT = re.compile(r"train|few_?shot", re.IGNORECASE)

MALFORMED = (  # what reading a file ends in that is not as it should be
    KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError, OSError, csv.Error,
)  # fmt: skip

Listed = list[tuple[str, str]]  # (stem of a file, class name)


def listed(files: Sequence[Path]) -> tuple[list[Listed], list[str]]:
    """Read the lists of ``file number`` that are for scoring, beside a list of class names.

    Those are meant that are called so; else all that are not called lists for training.
    """
    names = class_names(files)
    found: dict[Path, Listed] = {}
    for file in files:
        rows = [line.rsplit(" ", 1) for line in lines(file)]
        if rows and all(len(r) == 2 and r[1].isdigit() and re.search(r"\.\w{2,4}$", r[0]) for r in rows):
            found[file] = [(stem(video), names[int(number)]) for video, number in rows]
    asked = [file for file in found if re.fullmatch(SCORED, file.stem)]
    return [found[file] for file in asked or found if not LEARNT.search(file.stem)], names


def class_names(files: Sequence[Path]) -> list[str]:
    """Return the first list of class names among files; ValueError without one."""
    found = class_lists(files)
    if not found:
        raise ValueError("a list of the class names is needed, such as classInd.txt or label_map.txt")
    return found[0]


def class_lists(files: Sequence[Path]) -> list[list[str]]:
    """Return the lists of class names among files, each by its numbers: lines, or ``id,name``."""
    found: list[list[str]] = []
    for file in files:
        if not re.search("label|class", file.stem, re.IGNORECASE):
            continue
        if file.suffix == ".csv":
            with file.open(encoding="utf-8-sig", newline="") as stream:
                rows = [row for row in csv.reader(stream) if len(row) >= 2 and row[0].isdecimal()]
            ordered = sorted(rows, key=lambda row: int(row[0]))
            found.append([words(",".join(row[1:]).strip()) for row in ordered])
        elif file.suffix == ".txt":
            found.append([words(re.sub(r"^\d+ ", "", line)) for line in lines(file)])
    return found


def lines(file: Path) -> list[str]:
    """Return the lines of a text file that are not empty."""
    try:
        every = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file.name}: no text in UTF-8") from None
    return [line.strip() for line in every if line.strip()]


def stem(name: str) -> str:
    """Return the name of a video without folders and suffix."""
    return re.sub(r"\.\w{2,4}$", "", name.rpartition("/")[2])


def words(name: str) -> str:
    """Turn ``brush_hair`` or ``BrushHair`` into ``brush hair``."""
    if " " in name:
        return name
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).lower() if re.search(r"[A-Z_]", name) else name
