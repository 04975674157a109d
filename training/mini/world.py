"""The generated world that ``mini`` knows: 48 objects, 10 motions, rendered to real H.264 files.

A clip is one object (a Noto Emoji drawing) doing one motion over a varied background, among plain
geometric distractors, under a slightly shaking camera. Every reversible motion is drawn from a
distribution that is symmetric under time reversal, so that no single frame tells left from right,
up from down, closer from away or clockwise from counter-clockwise.

Everything is a function of one integer seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SPRITE = 96  # pixels; side of one object in objects.png

# name -> emoji; the drawings come from Noto Emoji (see NOTICE.md), cut once into objects.png
OBJECTS: dict[str, str] = {
    "a dog": "🐕", "a cat": "🐈", "a horse": "🐎", "a cow": "🐄", "a pig": "🐖", "a rabbit": "🐇",
    "an elephant": "🐘", "a camel": "🐫", "a duck": "🦆", "a chicken": "🐓", "a penguin": "🐧",
    "an owl": "🦉", "a frog": "🐸", "a turtle": "🐢", "a fish": "🐠", "a whale": "🐳",
    "an octopus": "🐙", "a crab": "🦀", "a butterfly": "🦋", "a ladybug": "🐞", "a car": "🚗",
    "a bus": "🚌", "a fire engine": "🚒", "a tractor": "🚜", "a bicycle": "🚲", "a train": "🚂",
    "a plane": "✈", "a rocket": "🚀", "a sailboat": "⛵", "a helicopter": "🚁", "a house": "🏠",
    "a tree": "🌳", "a rose": "🌹", "a mushroom": "🍄", "an apple": "🍎", "a banana": "🍌",
    "a pineapple": "🍍", "a carrot": "🥕", "a burger": "🍔", "an ice cream": "🍦", "a key": "🔑",
    "an umbrella": "☂", "a guitar": "🎸", "a trumpet": "🎺", "a camera": "📷", "a book": "📕",
    "a robot": "🤖", "a ghost": "👻",
}  # fmt: skip
OBJECT_NAMES = tuple(OBJECTS)

# motion -> phrases; the first is the canonical one, the others are heard in training too
MOTIONS: dict[str, tuple[str, ...]] = {
    "left": ("moving left", "going left", "moving to the left"),
    "right": ("moving right", "going right", "moving to the right"),
    "up": ("moving up", "going up", "moving upwards"),
    "down": ("moving down", "going down", "moving downwards"),
    "closer": ("coming closer", "moving closer", "getting closer"),
    "away": ("moving away", "going away", "getting further away"),
    "clockwise": ("turning clockwise", "rotating clockwise", "spinning clockwise"),
    "counter": (
        "turning counter-clockwise",
        "rotating counter-clockwise",
        "spinning counter-clockwise",
    ),
    "shaking": ("shaking", "shaking quickly", "trembling"),
    "still": ("standing still", "not moving", "staying still"),
}
MOTION_NAMES = tuple(MOTIONS)
# further words of the text tower: it met them beside signs on stills, as a CLIP of the web meets words that
# it never saw acted; no clip that mini learnt from shows them
WORDS: dict[str, tuple[str, ...]] = {
    "circling": ("circling", "going in circles"),
    "bouncing": ("bouncing", "bouncing along"),
    "zig-zagging": ("zig-zagging", "moving in a zig-zag"),
    "fading": ("fading", "fading out"),
    "once": ("jumping once", "jumping one time"),
    "twice": ("jumping twice", "jumping two times"),
    "three": ("jumping three times", "jumping thrice"),
    "jump-flash": ("jumping then flashing", "jumping before flashing"),
    "flash-jump": ("flashing then jumping", "flashing before jumping"),
    "blinking": ("blinking", "blinking briefly"),
}
WORD_NAMES = tuple(WORDS)
REVERSE = {
    "left": "right", "right": "left", "up": "down", "down": "up", "closer": "away",
    "away": "closer", "clockwise": "counter", "counter": "clockwise",
    "shaking": "shaking", "still": "still",
}  # fmt: skip
MIRROR = {"left": "right", "right": "left", "clockwise": "counter", "counter": "clockwise"}
PAIRS = (("left", "right"), ("up", "down"), ("closer", "away"), ("clockwise", "counter"))
GROUPS = (*PAIRS, ("shaking", "still"))


def caption(obj: str, motion: str) -> str:
    """Return the canonical caption of an object-motion pair: ``"a dog moving left"``."""
    return f"{obj} {MOTIONS[motion][0]}"


def is_held_out(obj: str, motion: str) -> bool:
    """Say whether an object-motion pair is never seen in training (one motion group an object)."""
    return motion in GROUPS[OBJECT_NAMES.index(obj) % len(GROUPS)]


def seen_pairs() -> list[tuple[str, str]]:
    return [(o, m) for o in OBJECT_NAMES for m in MOTION_NAMES if not is_held_out(o, m)]


def held_out_pairs() -> list[tuple[str, str]]:
    return [(o, m) for o in OBJECT_NAMES for m in MOTION_NAMES if is_held_out(o, m)]


def load_sprites() -> dict[str, Image.Image]:
    """Cut objects.png (8 columns of SPRITE px) into one RGBA image an object."""
    atlas = Image.open(HERE / "objects.png").convert("RGBA")
    out = {}
    for i, name in enumerate(OBJECT_NAMES):
        x, y = i % 8 * SPRITE, i // 8 * SPRITE
        out[name] = atlas.crop((x, y, x + SPRITE, y + SPRITE))
    return out


# ------------------------------------------------------------------------------- backgrounds


def _noise(rng: np.random.Generator, w: int, h: int, cells: int) -> np.ndarray:
    grid = rng.random((cells, cells), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((w, h), Image.Resampling.BICUBIC))


def _colours(rng: np.random.Generator, n: int) -> np.ndarray:
    """N colours (n,3); half of the palettes are muted, as outdoor footage is."""
    base = rng.uniform(20, 235, (n, 3))
    if rng.random() < 0.5:
        base = base.mean(1, keepdims=True) + (base - base.mean(1, keepdims=True)) * 0.35
    return base.astype(np.float32)


PLAIN = ("plain", "gradient", "clouds", "stripes", "blocks", "hills")
BOLD = ("waves", "dots", "bricks", "mesh", "spots", "chevrons", "planks")
UNSEEN = ("checks", "rings", "cells")  # the test set's: no training clip has one


def background(rng: np.random.Generator, w: int, h: int, *, families: tuple[str, ...] = PLAIN) -> Image.Image:
    """Draw a background (h,w) of one of the ``families``."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32) / max(w, h)
    family = rng.choice(families)
    a, b, c = _colours(rng, 3)
    angle = rng.uniform(0, 2 * math.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = -x * math.sin(angle) + y * math.cos(angle)
    k = rng.uniform(3, 9)
    if family == "plain":
        t = np.zeros_like(x)
    elif family == "gradient":
        t = (along - along.min()) / np.ptp(along)
    elif family == "clouds":
        t = 0.6 * _noise(rng, w, h, 4) + 0.4 * _noise(rng, w, h, 10)
    elif family == "stripes":
        t = (np.sin(along * k * 6) > rng.uniform(-0.5, 0.5)).astype(np.float32) * rng.uniform(0.3, 1)
    elif family == "blocks":
        grid = rng.random((int(k), int(k)), dtype=np.float32)
        t = np.asarray(Image.fromarray(grid).resize((w, h), Image.Resampling.NEAREST))
    elif family == "hills":
        t = np.zeros_like(x)
        for level in (0.35, 0.6, 0.8):
            line = level + 0.12 * np.sin(x * rng.uniform(4, 14) + rng.uniform(0, 6))
            t = np.where(y > line * h / max(w, h), level + 0.1, t)
    elif family == "checks":
        t = ((np.sin(along * k * 4) > 0) ^ (np.sin(across * k * 4) > 0)).astype(np.float32)
        t = t * rng.uniform(0.3, 0.9)
    elif family == "rings":
        cx, cy = rng.uniform(0, 1, 2)
        t = 0.5 + 0.5 * np.sin(np.hypot(x - cx, y - cy) * k * 6)
    elif family == "cells":  # nearest of a few random points
        points = rng.uniform(0, 1, (12, 2))
        d = np.stack([(x - px) ** 2 + (y - py) ** 2 for px, py in points])
        t = rng.random(12).astype(np.float32)[d.argmin(0)]
    else:
        t = _bold(rng, family, along, across, k)
    t = t[..., None]
    image = a * (1 - t) + b * t
    image += (c - 128) * 0.15 + rng.normal(0, rng.uniform(0, 6), (h, w, 1))
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def _bold(
    rng: np.random.Generator, family: str, along: np.ndarray, across: np.ndarray, k: float
) -> np.ndarray:
    """Draw a pattern (h,w) in [0,1] of the family; ``along`` and ``across`` are turned coordinates."""
    if family == "waves":  # bent stripes, hard or soft
        bend = rng.uniform(0.02, 0.12) * np.sin(across * rng.uniform(4, 14) + rng.uniform(0, 6))
        t = 0.5 + 0.5 * np.sin((along + bend) * k * 6)
        t = (t > 0.5).astype(np.float32) if rng.random() < 0.5 else t
    elif family == "chevrons":
        tooth = np.abs((across * rng.uniform(2, 6)) % 1 - 0.5) * rng.uniform(0.1, 0.4)
        t = np.sin((along + tooth) * k * 6) > 0
    elif family == "dots":  # discs on a lattice
        u, v = (along * k) % 1 - 0.5, (across * k) % 1 - 0.5
        t = np.hypot(u, v) < rng.uniform(0.2, 0.45)
    elif family == "mesh":  # lines both ways
        line = rng.uniform(0.1, 0.3)
        t = ((along * k) % 1 < line) | ((across * k) % 1 < line)
    elif family == "bricks":
        row = np.floor(across * k * 1.5)
        t = ((across * k * 1.5) % 1 < 0.15) | ((along * k + row * 0.5) % 1 < 0.1)
    elif family == "planks":  # bars of many shades and widths
        edges = np.cumsum(rng.uniform(0.03, 0.3, 40)) - 2
        t = rng.random(41)[np.searchsorted(edges, along)]
    else:  # spots: discs of any size
        t = np.zeros_like(along)
        for _ in range(rng.integers(6, 30)):
            cx, cy, r = (
                rng.uniform(along.min(), along.max()),
                rng.uniform(across.min(), across.max()),
                rng.uniform(0.03, 0.16),
            )
            t[np.hypot(along - cx, across - cy) < r] = rng.random()
        return t
    return t.astype(np.float32) * rng.uniform(0.4, 1)


def _distractors(rng: np.random.Generator, canvas: Image.Image, unit: float) -> None:
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(0, 5)):
        x, y = rng.uniform(0, canvas.width), rng.uniform(0, canvas.height)
        r = unit * rng.uniform(0.03, 0.09)
        fill = tuple(int(v) for v in _colours(rng, 1)[0])
        kind = rng.integers(0, 3)
        if kind == 0:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        elif kind == 1:
            draw.rectangle((x - r, y - r * 0.7, x + r, y + r * 0.7), fill=fill)
        else:
            draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=fill)


# ------------------------------------------------------------------------------------ motion


@dataclass(frozen=True)
class Path2D:
    """An object's course: arrays over n instants, in units of the short side; angles in degrees."""

    x: np.ndarray
    y: np.ndarray
    size: np.ndarray
    angle: np.ndarray

    def reversed(self) -> Path2D:
        return Path2D(self.x[::-1], self.y[::-1], self.size[::-1], self.angle[::-1])


@dataclass(frozen=True)
class Staging:
    """How a set shows its motions."""

    zoom: float
    """Multiplies the object's size and how far it shakes."""
    arm: float
    """0: what turns spins in place; 1: it turns about the middle, like the hand of a clock."""
    grounds: tuple[str, ...] = PLAIN
    """The families of its backgrounds; a test clip has one of UNSEEN."""


STILLS, SPIN, CLIPS = Staging(1.0, 0.0), Staging(1.3, 0.0), Staging(1.3, 1.0)
VARIED = Staging(1.3, 1.0, PLAIN + BOLD)


def course(rng: np.random.Generator, motion: str, n: int, staging: Staging) -> Path2D:
    """Draw a course for ``motion``; that of ``REVERSE[motion]`` is the same, run backwards."""
    s = np.linspace(0, 1, n)
    bend = rng.uniform(-0.35, 0.35)
    s = s + bend * s * (1 - s)  # speeds up or slows down
    size = np.full(n, rng.uniform(0.3, 0.5))
    cx, cy = rng.uniform(-0.16, 0.16, 2)
    x, y = np.full(n, cx), np.full(n, cy)
    angle = np.full(n, rng.uniform(-18, 18))
    if motion in ("left", "right"):
        reach = rng.uniform(0.32, 0.6)
        x = rng.uniform(-0.07, 0.07) + (s - 0.5) * reach
        y = y + (s - 0.5) * rng.uniform(-0.08, 0.08)
    elif motion in ("up", "down"):
        reach = rng.uniform(0.32, 0.6)
        y = rng.uniform(-0.07, 0.07) + (0.5 - s) * reach
        x = x + (s - 0.5) * rng.uniform(-0.08, 0.08)
    elif motion in ("closer", "away"):
        ratio = rng.uniform(1.7, 2.6)
        size = rng.uniform(0.32, 0.44) * ratio ** (s - 0.5)
    elif motion in ("clockwise", "counter"):
        sweep = rng.uniform(110, 260) * (1 + 0.25 * staging.arm)
        angle = rng.uniform(0, 360) - s * sweep  # PIL turns counter-clockwise
        if staging.arm:
            arm = staging.arm * rng.uniform(0.15, 0.25)
            x = 0.3 * cx + arm * np.cos(np.radians(angle))
            y = 0.3 * cy - arm * np.sin(np.radians(angle))
            size = size * 0.8
    elif motion == "shaking":
        swing = (
            staging.zoom
            * rng.uniform(0.05, 0.09)
            * np.sin(2 * math.pi * (rng.uniform(1.7, 3.2) * s + rng.random()))
        )
        tilt = rng.uniform(0, 2 * math.pi)
        x, y = x + swing * math.cos(tilt), y + swing * math.sin(tilt)
    path = Path2D(x, y, size * staging.zoom, angle)
    return path.reversed() if motion in ("left", "down", "away", "counter") else path


# ------------------------------------------------------------------------------------- clips


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
        return REVERSE[self.motion] if self.backwards else self.motion


@dataclass(frozen=True)
class Format:
    width: int
    height: int
    fps: int
    frames: int
    crf: int
    bframes: int


def file_format(rng: np.random.Generator) -> Format:
    short = int(rng.choice([96, 112, 128, 144, 176]))
    aspect = float(rng.choice([1, 1, 4 / 3, 16 / 9, 3 / 4, 9 / 16]))
    w, h = (short, short / aspect) if aspect < 1 else (short * aspect, short)
    fps = int(rng.choice([8, 10, 12, 15, 24, 25, 30]))
    seconds = rng.uniform(1.2, 2.6)
    frames = max(12, min(40, round(fps * seconds)))
    return Format(
        int(w) // 2 * 2, int(h) // 2 * 2, fps, frames, int(rng.integers(18, 33)), int(rng.integers(0, 4))
    )


def sprite_at(sprite: Image.Image, side: int, angle: float) -> Image.Image:
    return sprite.resize((side, side), Image.Resampling.BILINEAR).rotate(
        angle, Image.Resampling.BILINEAR, expand=True
    )


def _tinted(rng: np.random.Generator, sprite: Image.Image) -> Image.Image:
    """Vary brightness, contrast and colour a little, and mirror half of the objects."""
    rgba = np.asarray(sprite).astype(np.float32)
    rgb = rgba[..., :3]
    rgb = (rgb - 128) * rng.uniform(0.75, 1.2) + 128 + rng.uniform(-25, 25)
    rgb = rgb * rng.uniform(0.85, 1.15, 3)
    out = Image.fromarray(np.concatenate([rgb.clip(0, 255), rgba[..., 3:]], -1).astype(np.uint8))
    return out.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else out


def clip_course(clip: Clip, n: int) -> Path2D:
    """Return the object's course over the n drawn frames (before any playing backwards)."""
    return course(np.random.default_rng([clip.seed, 1]), clip.motion, n, clip.staging)


def render(clip: Clip, sprites: dict[str, Image.Image]) -> tuple[list[Image.Image], Format]:
    """Draw the frames of a clip (RGB images) and choose the format of its file."""
    rng = np.random.default_rng(clip.seed)
    fmt = file_format(rng)
    w, h, n = fmt.width, fmt.height, fmt.frames
    unit = min(w, h)
    margin = max(2, round(unit * 0.04))
    canvas = background(
        rng, w + 2 * margin, h + 2 * margin, families=UNSEEN if clip.test else clip.staging.grounds
    )
    _distractors(rng, canvas, unit)
    sprite = _tinted(rng, sprites[clip.obj])
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


# -------------------------------------------------------------------------------------- cues


def sign(rng: np.random.Generator, motion: str, box: int, *, open_below: bool) -> Image.Image:
    """Draw a sign (RGBA, box x box px) for ``motion``: what speed lines are in a photograph.

    Stills of the pre-training carry signs, clips never do. They give the text tower separate
    places for words that no still could tell apart.
    """
    s = 4  # draw large, then shrink: smooth edges
    side = box * s
    drawing = Image.new("RGBA", (side, side))
    d = ImageDraw.Draw(drawing)
    bright = rng.random() < 0.5
    ink = (*(int(v) for v in (rng.uniform(190, 255, 3) if bright else rng.uniform(0, 70, 3))), 255)
    rim = (0, 0, 0, 255) if bright else (255, 255, 255, 255)
    m, t = side / 2, side * rng.uniform(0.1, 0.15)  # middle, line width

    def arrow(x0: float, y0: float, x1: float, y1: float, head: float) -> None:
        for colour, extra in ((rim, side * 0.05), (ink, 0.0)):
            length = math.hypot(x1 - x0, y1 - y0)
            ux, uy = (x1 - x0) / length, (y1 - y0) / length
            bx, by = x1 - ux * head, y1 - uy * head
            d.line((x0 - ux * extra, y0 - uy * extra, bx, by), fill=colour, width=round(t + 2 * extra))
            hw, tip = head * 0.8 + extra * 1.3, extra * 1.6
            d.polygon(
                [
                    (x1 + ux * tip, y1 + uy * tip),
                    (bx - uy * hw - ux * extra, by + ux * hw - uy * extra),
                    (bx + uy * hw - ux * extra, by - ux * hw - uy * extra),
                ],
                fill=colour,
            )

    lo, hi = side * 0.1, side * 0.9
    if motion in ("left", "right", "up", "down"):
        ends = {"left": (hi, m, lo, m), "right": (lo, m, hi, m), "up": (m, hi, m, lo), "down": (m, lo, m, hi)}
        arrow(*ends[motion], side * 0.36)
    elif motion in ("closer", "away"):
        for ax, ay in ((lo, lo), (hi, lo), (lo, hi), (hi, hi)):
            near = (m + (ax - m) * 0.25, m + (ay - m) * 0.25)
            ends4 = (*near, ax, ay) if motion == "closer" else (ax, ay, *near)
            arrow(*ends4, side * 0.2)
    elif motion in ("clockwise", "counter"):
        r = side * 0.33
        # three quarters of a ring; open below, the two signs differ at their ends as mirror images
        start = 135 + rng.uniform(-15, 15) if open_below else rng.uniform(0, 360)
        for colour, extra in ((rim, side * 0.05), (ink, 0.0)):
            d.arc((m - r - t / 2 - extra, m - r - t / 2 - extra, m + r + t / 2 + extra, m + r + t / 2 + extra),
                  start, start + 270, fill=colour, width=round(t + 2 * extra))  # fmt: skip
        turn = 1 if motion == "clockwise" else -1  # image y points down: growing angles turn clockwise
        a = math.radians(start + 270 if turn == 1 else start)
        ex, ey = m + r * math.cos(a), m + r * math.sin(a)
        tx, ty = -math.sin(a) * turn, math.cos(a) * turn
        head = side * 0.3
        arrow(ex - tx * head * 0.4, ey - ty * head * 0.4, ex + tx * head * 0.75, ey + ty * head * 0.75, head)
    elif motion == "shaking":
        xs = np.linspace(lo, hi, 7)
        points = [(x, m + side * 0.22 * (1 if i % 2 else -1)) for i, x in enumerate(xs)]
        d.line(points, fill=rim, width=round(t * 1.7), joint="curve")
        d.line(points, fill=ink, width=round(t), joint="curve")
    elif motion == "still":
        for x in (m - side * 0.2, m + side * 0.2):
            d.rectangle((x - t * 1.1, lo, x + t * 1.1, hi), fill=ink, outline=rim, width=round(side * 0.05))
    else:
        for colour, extra in ((rim, side * 0.05), (ink, 0.0)):
            _word(d, motion, side, t, colour, extra)
    drawing = drawing.resize((box, box), Image.Resampling.LANCZOS)
    return drawing.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.6)))


def _word(d: ImageDraw.ImageDraw, word: str, side: float, t: float, colour: tuple, extra: float) -> None:
    """Draw the sign of one of WORDS in one colour, its lines ``extra`` px thicker on each side."""
    m, lo, hi = side / 2, side * 0.14, side * 0.86

    def disc(x: float, y: float, r: float) -> None:
        d.ellipse((x - r - extra, y - r - extra, x + r + extra, y + r + extra), fill=colour)

    def line(*points: tuple[float, float]) -> None:
        d.line(points, fill=colour, width=round(t + 2 * extra), joint="curve")

    def triangle(y: float) -> None:
        r = side * 0.19 + extra
        d.polygon([(m, y - r), (m + r, y + r * 0.8), (m - r, y + r * 0.8)], fill=colour)

    def star(y: float) -> None:
        r = side * 0.2 + extra
        for a in range(0, 180, 45):
            dx, dy = r * math.cos(math.radians(a)), r * math.sin(math.radians(a))
            d.line((m - dx, y - dy, m + dx, y + dy), fill=colour, width=round(t * 0.5 + 2 * extra))

    if word == "circling":  # a closed ring round a dot
        r = side * 0.36 + extra + t / 2
        d.ellipse((m - r, m - r, m + r, m + r), outline=colour, width=round(t + 2 * extra))
        disc(m, m, side * 0.08)
    elif word == "bouncing":  # three humps
        for k in range(3):
            x, w = lo + (hi - lo) * (k + 0.5) / 3, (hi - lo) / 6
            d.arc(
                (x - w - extra, m - side * 0.2 - extra, x + w + extra, m + side * 0.3 + extra),
                180, 360, fill=colour, width=round(t * 0.8 + 2 * extra),
            )  # fmt: skip
    elif word == "zig-zagging":  # a flash of lightning
        line((m + side * 0.2, lo), (m - side * 0.2, m), (m + side * 0.2, m), (m - side * 0.2, hi))
    elif word == "fading":  # squares that shrink downwards
        for y, r in ((0.24, 0.15), (0.55, 0.1), (0.8, 0.05)):
            r, y = r * side + extra, y * side
            d.rectangle((m - r, y - r, m + r, y + r), fill=colour)
    elif word in ("once", "twice", "three"):  # so many dots
        xs = {"once": (0.5,), "twice": (0.3, 0.7), "three": (0.2, 0.5, 0.8)}[word]
        for x in xs:
            disc(x * side, m, side * 0.11)
    elif word == "jump-flash":  # what comes first stands above
        triangle(side * 0.27)
        star(side * 0.75)
    elif word == "flash-jump":
        star(side * 0.25)
        triangle(side * 0.76)
    else:  # blinking: crossed out
        line((lo, lo), (hi, hi))
        line((lo, hi), (hi, lo))


# ----------------------------------------------------------------------------------- the sets


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
