"""The generated world that ``mini`` knows: 48 objects, 10 motions, rendered to real H.264 files.

A clip is one object (a Noto Emoji drawing) doing one motion over a varied background, among plain
geometric distractors, under a slightly shaking camera. Everything is a function of one integer seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image

from training.world.backgrounds import UNSEEN, add_distractors, background
from training.world.motion import CLIPS, Course, Staging, course
from training.world.sprites import load_sprites, sprite_at, tinted
from training.world.vocabulary import (
    GROUPS,
    MOTION_NAMES,
    OBJECT_NAMES,
    PAIRS,
    REVERSE,
    held_out_pairs,
    is_held_out,
    seen_pairs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Clip:
    """One clip to render: what it shows and how its file is made."""

    seed: int
    obj: str
    motion: str
    test: bool = False
    backwards: bool = False  # play the frames in reverse: shows REVERSE[motion]
    staging: Staging = CLIPS

    @property
    def shown(self) -> str:
        """The motion that is seen."""
        return REVERSE[self.motion] if self.backwards else self.motion


@dataclass(frozen=True)
class Format:
    """How a clip's file is written."""

    width: int
    height: int
    fps: int
    frames: int
    crf: int
    bframes: int


def file_format(rng: np.random.Generator) -> Format:
    """Draw a size, rate, length and quality."""
    short = int(rng.choice([96, 112, 128, 144, 176]))
    aspect = float(rng.choice([1, 1, 4 / 3, 16 / 9, 3 / 4, 9 / 16]))
    w, h = (short, short / aspect) if aspect < 1 else (short * aspect, short)
    fps = int(rng.choice([8, 10, 12, 15, 24, 25, 30]))
    seconds = rng.uniform(1.2, 2.6)
    frames = max(12, min(40, round(fps * seconds)))
    return Format(
        int(w) // 2 * 2, int(h) // 2 * 2, fps, frames, int(rng.integers(18, 33)), int(rng.integers(0, 4))
    )


def clip_course(clip: Clip, n: int) -> Course:
    """Return the object's course over the n drawn frames (before any playing backwards)."""
    return course(np.random.default_rng([clip.seed, 1]), clip.motion, n, clip.staging)


def render(clip: Clip) -> tuple[list[Image.Image], Format]:
    """Draw the frames of a clip (RGB images) and choose the format of its file."""
    rng = np.random.default_rng(clip.seed)
    fmt = file_format(rng)
    w, h, n = fmt.width, fmt.height, fmt.frames
    unit = min(w, h)
    margin = max(2, round(unit * 0.04))
    canvas = background(
        rng, w + 2 * margin, h + 2 * margin, families=UNSEEN if clip.test else clip.staging.grounds
    )
    add_distractors(rng, canvas, unit)
    sprite = tinted(rng, load_sprites()[clip.obj])
    path = clip_course(clip, n)
    jitter = rng.normal(0, rng.uniform(0, 0.012) * unit, (n, 2)).clip(-margin, margin)
    frames = []
    for i in range(n):
        dx, dy = (round(v) for v in jitter[i])
        frame = canvas.crop((margin + dx, margin + dy, margin + dx + w, margin + dy + h))
        drawn = sprite_at(sprite, max(8, round(path.size[i] * unit)), float(path.angle[i]))
        left = round(w / 2 + path.x[i] * unit - dx - drawn.width / 2)
        top = round(h / 2 + path.y[i] * unit - dy - drawn.height / 2)
        frame.paste(drawn, (left, top), drawn)
        frames.append(frame)
    return (frames[::-1] if clip.backwards else frames), fmt


def write(frames: list[Image.Image], fmt: Format, path: Path) -> None:
    """Encode frames as H.264 in an MP4 file."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(fmt.fps))
        stream.width, stream.height, stream.pix_fmt = fmt.width, fmt.height, "yuv420p"
        stream.codec_context.thread_count = 1
        # without this x264 differs from run to run on some CPUs, by a grey level or two
        exact = {"x264-params": "cpu-independent=1"}
        stream.options = {"crf": str(fmt.crf), "preset": "veryfast", "bf": str(fmt.bframes), **exact}
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_image(frame)))
        out.mux(stream.encode())


def train_clips(count: int, seed: int, staging: Staging) -> Iterator[Clip]:
    """Yield training clips over the seen pairs, each pair equally often."""
    pairs = seen_pairs()
    rng = np.random.default_rng(seed)
    order: list[int] = []
    for i in range(count):
        if not order:
            order = rng.permutation(len(pairs)).tolist()
        obj, motion = pairs[order.pop()]
        yield Clip(seed * 1_000_003 + i, obj, motion, staging=staging)


def test_clips(count: int, seed: int) -> Iterator[Clip]:
    """Yield held-out clips: unseen pairs on unseen backgrounds, each motion equally often.

    A reversible clip is followed by the same frames played backwards: one-frame evidence is then
    the same for both, and a model blind to order scores 50 % inside each pair.
    """
    rng = np.random.default_rng(seed)
    each = count // len(MOTION_NAMES)
    for group in GROUPS:
        objects = [o for o in OBJECT_NAMES if is_held_out(o, group[0])]
        for k in range(each):
            obj = objects[k % len(objects)]
            clip_seed = int(rng.integers(1 << 40))
            if group in PAIRS:
                motion = group[k % 2]
                yield Clip(clip_seed, obj, motion, test=True)
                yield Clip(clip_seed, obj, motion, test=True, backwards=True)
            else:
                yield Clip(clip_seed, obj, "shaking", test=True)
                yield Clip(clip_seed + 1, obj, "still", test=True)


def retrieval_clips(count: int, seed: int) -> Iterator[Clip]:
    """Yield clips with distinct captions on unseen backgrounds: all unseen pairs, then seen ones."""
    rng = np.random.default_rng(seed)
    seen = seen_pairs()
    chosen = [*held_out_pairs(), *(seen[i] for i in rng.permutation(len(seen)))]
    for obj, motion in chosen[:count]:
        yield Clip(int(rng.integers(1 << 40)), obj, motion, test=True)
