"""Labelled clips that take more than one frame to tell: ``python -m training.evidence.tasks OUT``.

Drawn with mini's objects and backgrounds, but showing what mini was never trained on: four new
motions, and four tasks that ask more of a model than a direction. Writes OUT/NAME/*.mp4 and
OUT/NAME/data.csv (path, label, split), ready for ``stop finetune``. Test clips have backgrounds of
families that neither training nor validation has.
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from training.evidence import scenes
from training.world.backgrounds import PLAIN, UNSEEN, background, colors
from training.world.clips import Format, file_format
from training.world.files import write_files
from training.world.sprites import load_sprites, sprite_at, tinted
from training.world.vocabulary import MOTIONS, OBJECT_NAMES, WORDS

TASKS: dict[str, tuple[str, ...]] = {
    "motions": ("circling", "bouncing", "zig-zagging", "fading"),
    "crowd": ("left", "right", "up", "down"),  # a small target among shapes that move too
    "order": ("jump-flash", "flash-jump"),  # which of two events far apart came first
    "count": ("once", "twice", "three"),  # how often it jumps
    "blink": ("blinking", "still"),  # gone for an eighth of the clip, or not
}
CLIPS = {"train": 200, "val": 10, "test": 50}  # of each label


def label_of(what: str) -> str:
    """Return the words of a motion: what a user would write into a table."""
    return (MOTIONS | WORDS)[what][0]


@dataclass
class Course:
    """Arrays over n instants: place and size in units of the short side, opacity, brightness."""

    x: np.ndarray
    y: np.ndarray
    size: np.ndarray
    alpha: np.ndarray
    light: np.ndarray


def bump(s: np.ndarray, middle: float, width: float) -> np.ndarray:
    """Return a hump of height 1 over [middle - width/2, middle + width/2]."""
    t = (s - middle) / width
    return np.where(np.abs(t) < 0.5, np.cos(math.pi * t), 0.0)


def course(rng: np.random.Generator, what: str, n: int, *, crowd: bool) -> Course:
    """Draw a course of n instants; in a crowd the object is small."""
    s = (np.arange(n) + 0.5) / n
    x, y = (np.full(n, v) for v in rng.uniform(-0.14, 0.14, 2))
    size = np.full(n, rng.uniform(0.2, 0.26) if crowd else rng.uniform(0.4, 0.6))
    alpha, light = np.ones(n), np.ones(n)
    if what in ("left", "right", "up", "down"):
        reach = rng.uniform(0.4, 0.65) * (s - 0.5)
        x = x + {"left": -reach, "right": reach}.get(what, 0.0)
        y = y + {"up": -reach, "down": reach}.get(what, 0.0)
    elif what == "circling":
        a = rng.uniform(0, 2 * math.pi) + rng.choice([-1, 1]) * math.radians(rng.uniform(380, 640)) * s
        r = rng.uniform(0.17, 0.27)
        x, y = 0.3 * x + r * np.cos(a), 0.3 * y + r * np.sin(a)
    elif what == "bouncing":
        y = 0.2 - rng.uniform(0.3, 0.42) * np.abs(np.sin(math.pi * (rng.uniform(2, 3.2) * s + rng.random())))
    elif what == "zig-zagging":
        phase = rng.uniform(1.6, 2.6) * s + rng.random()
        x = rng.uniform(0.18, 0.28) * (4 * np.abs(phase % 1 - 0.5) - 1)
        y = rng.choice([-1, 1]) * rng.uniform(0.35, 0.55) * (s - 0.5)
    elif what == "fading":
        alpha = np.clip(1.05 - rng.uniform(0.85, 1.05) * s, 0.05, 1)
    elif what in ("jump-flash", "flash-jump"):
        early, late = rng.uniform(0.12, 0.28), rng.uniform(0.72, 0.88)
        jump, flash = (early, late) if what == "jump-flash" else (late, early)
        y = y - 0.3 * bump(s, jump, 0.22)
        light = 1 + 2.2 * (np.abs(s - flash) < 0.09)
    elif what in ("once", "twice", "three"):
        count = {"once": 1, "twice": 2, "three": 3}[what]
        middles = (np.arange(count) + 0.5 + rng.uniform(-0.12, 0.12, count)) / count
        y = 0.5 * y + 0.1
        for m in middles:
            y = y - 0.32 * bump(s, m, 0.24)
    elif what == "blinking":
        alpha = np.where(np.abs(s - rng.uniform(0.15, 0.85)) < 1 / 16, 0.0, 1.0)
    return Course(x, y, size, alpha, light)


def render(seed: int, what: str, *, crowd: bool, test: bool) -> tuple[list[Image.Image], Format]:
    """Draw the frames of a clip and choose the format of its file; ``crowd`` adds shapes that move too."""
    rng = np.random.default_rng(seed)
    fmt = file_format(rng)
    w, h, n = fmt.width, fmt.height, max(16, fmt.frames)
    unit = min(w, h)
    ground = background(rng, w, h, families=UNSEEN if test else PLAIN)
    sprite = tinted(rng, load_sprites()[OBJECT_NAMES[rng.integers(len(OBJECT_NAMES))]])
    path = course(rng, what, n, crowd=crowd)
    others = [
        (
            rng.uniform(-0.45, 0.45, 2),
            rng.uniform(-0.6, 0.6, 2),
            rng.uniform(0.05, 0.11),
            colors(rng, 1)[0],
            rng.integers(3),
        )
        for _ in range(6 if crowd else 0)
    ]
    jitter = rng.normal(0, rng.uniform(0, 0.01) * unit, (n, 2))
    frames = []
    for i in range(n):
        frame = ground.copy()
        draw = ImageDraw.Draw(frame)
        for place, speed, r, color, kind in others:
            cx, cy = (0.5 * np.array([w, h]) + unit * (place + speed * (i / n - 0.5)) + jitter[i]).tolist()
            box = (cx - r * unit, cy - r * unit, cx + r * unit, cy + r * unit)
            fill = tuple(int(v) for v in color)
            if kind == 0:
                draw.ellipse(box, fill=fill)
            elif kind == 1:
                draw.rectangle(box, fill=fill)
            else:
                draw.regular_polygon((cx, cy, r * unit), 3, fill=fill)
        drawn = sprite_at(sprite, max(8, round(path.size[i] * unit)), 0.0)
        if path.light[i] != 1:
            r, g, b, _ = ImageEnhance.Brightness(drawn).enhance(path.light[i]).split()
            drawn = Image.merge("RGBA", (r, g, b, drawn.split()[3]))
        mask = drawn.split()[3].point(lambda v, k=path.alpha[i]: int(v * k))
        left = round(w / 2 + path.x[i] * unit + jitter[i, 0] - drawn.width / 2)
        top = round(h / 2 + path.y[i] * unit + jitter[i, 1] - drawn.height / 2)
        frame.paste(drawn, (left, top), mask)
        frames.append(frame)
    return frames, fmt


def make(folder: Path, task: str) -> None:
    """Write a task's clips and its table."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs, rows = {}, []
    for k, what in enumerate(TASKS[task]):
        for s, (split, count) in enumerate(CLIPS.items()):
            for i in range(count):
                path = folder / f"{split}-{what}-{i:03d}.mp4"
                seed = ((list(TASKS).index(task) * 8 + k) * 4 + s) * 100_000 + i
                jobs[path] = partial(render, seed, what, crowd=task == "crowd", test=split == "test")
                rows.append((path.name, label_of(what), split))
    write_files(jobs)
    with (folder / "data.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "split"), *rows])


def main() -> None:
    """Write every task, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    makers = dict.fromkeys(TASKS, make) | dict.fromkeys(scenes.CLIPS, scenes.make)
    parser.add_argument("--task", choices=tuple(makers), action="append")
    args = parser.parse_args()
    for name in args.task or makers:
        makers[name](args.out / name, name)


if __name__ == "__main__":
    main()
