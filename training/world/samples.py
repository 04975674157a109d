"""Render the clips that ship with the package: ``python -m training.world.samples OUT``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from training.world.clips import Clip, render, write
from training.world.vocabulary import caption

SAMPLES = (
    ("a dog", "left"),
    ("a car", "right"),
    ("a rocket", "up"),
    ("an owl", "down"),
    ("a house", "closer"),
    ("an umbrella", "clockwise"),
    ("a guitar", "counter"),
    ("a ghost", "shaking"),
)
SEED = 20_000


def main(out: Path) -> None:
    """Write one file a sample, named by its caption."""
    out.mkdir(parents=True, exist_ok=True)
    for i, (obj, motion) in enumerate(SAMPLES):
        frames, form = render(Clip(SEED + i, obj, motion, test=True))
        write(frames, replace(form, crf=23), out / f"{caption(obj, motion).replace(' ', '-')}.mp4")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
