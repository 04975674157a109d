"""Render the clips that ship with the package: ``python samples.py OUT``; unseen backgrounds."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from world import Clip, caption, load_sprites, render, write

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
    out.mkdir(parents=True, exist_ok=True)
    sprites = load_sprites()
    for i, (obj, motion) in enumerate(SAMPLES):
        frames, fmt = render(Clip(SEED + i, obj, motion, test=True), sprites)
        write(frames, replace(fmt, crf=23), out / f"{caption(obj, motion).replace(' ', '-')}.mp4")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
