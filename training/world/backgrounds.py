"""Backgrounds: sixteen families of patterns, and plain shapes laid over them."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

PLAIN = ("plain", "gradient", "clouds", "stripes", "blocks", "hills")
BOLD = ("waves", "dots", "bricks", "mesh", "spots", "chevrons", "planks")
UNSEEN = ("checks", "rings", "cells")  # the test set's: no training clip has one


def background(rng: np.random.Generator, w: int, h: int, *, families: tuple[str, ...] = PLAIN) -> Image.Image:
    """Draw a background (h,w) of one of the ``families``."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32) / max(w, h)
    family = rng.choice(families)
    a, b, c = colors(rng, 3)
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


def _noise(rng: np.random.Generator, w: int, h: int, cells: int) -> np.ndarray:
    grid = rng.random((cells, cells), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((w, h), Image.Resampling.BICUBIC))


def colors(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw n colors (n,3) of RGB; half of the palettes are muted, as outdoor footage is."""
    base = rng.uniform(20, 235, (n, 3))
    if rng.random() < 0.5:
        base = base.mean(1, keepdims=True) + (base - base.mean(1, keepdims=True)) * 0.35
    return base.astype(np.float32)


def add_distractors(rng: np.random.Generator, canvas: Image.Image, unit: float) -> None:
    """Draw up to four plain shapes on the canvas; ``unit`` is the clip's short side in pixels."""
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(0, 5)):
        x, y = rng.uniform(0, canvas.width), rng.uniform(0, canvas.height)
        r = unit * rng.uniform(0.03, 0.09)
        fill = tuple(int(v) for v in colors(rng, 1)[0])
        kind = rng.integers(0, 3)
        if kind == 0:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        elif kind == 1:
            draw.rectangle((x - r, y - r * 0.7, x + r, y + r * 0.7), fill=fill)
        else:
            draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=fill)
