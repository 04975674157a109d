"""Motions: the course of an object over the frames of a clip.

Every reversible motion is drawn from a distribution that is symmetric under time reversal, so that no
single frame tells left from right, up from down, closer from away or clockwise from counter-clockwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from training.world.backgrounds import BOLD, PLAIN


@dataclass(frozen=True)
class Course:
    """Where an object is: arrays over n instants, in units of the short side; angles in degrees."""

    x: np.ndarray
    y: np.ndarray
    size: np.ndarray
    angle: np.ndarray

    def reversed(self) -> Course:
        """Return the same course, run backwards."""
        return Course(self.x[::-1], self.y[::-1], self.size[::-1], self.angle[::-1])


@dataclass(frozen=True)
class Staging:
    """How a set shows its motions."""

    zoom: float
    """Multiplies the object's size and how far it shakes."""
    arm: float
    """0: what turns spins in place; 1: it turns about the middle, like the hand of a clock."""
    grounds: tuple[str, ...] = PLAIN
    """The families of its backgrounds; a test clip has one of UNSEEN."""


STILLS, CLIPS = Staging(1.0, 0.0), Staging(1.3, 1.0)
VARIED = Staging(1.3, 1.0, PLAIN + BOLD)


def course(rng: np.random.Generator, motion: str, n: int, staging: Staging) -> Course:
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
    path = Course(x, y, size * staging.zoom, angle)
    return path.reversed() if motion in ("left", "down", "away", "counter") else path
