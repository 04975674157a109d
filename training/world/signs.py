"""Signs: what road signs and speed lines are in a photograph.

Stills of the pre-training carry them, clips never. They give the text tower separate places for
words that no still could tell apart.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def sign(rng: np.random.Generator, motion: str, box: int, *, open_below: bool) -> Image.Image:
    """Draw a sign (RGBA, box x box px) for ``motion``, one of MOTIONS or WORDS."""
    s = 4  # draw large, then shrink: smooth edges
    side = box * s
    drawing = Image.new("RGBA", (side, side))
    d = ImageDraw.Draw(drawing)
    bright = rng.random() < 0.5
    ink = (*(int(v) for v in (rng.uniform(190, 255, 3) if bright else rng.uniform(0, 70, 3))), 255)
    rim = (0, 0, 0, 255) if bright else (255, 255, 255, 255)
    m, t = side / 2, side * rng.uniform(0.1, 0.15)  # middle, line width

    def arrow(x0: float, y0: float, x1: float, y1: float, head: float) -> None:
        for color, extra in ((rim, side * 0.05), (ink, 0.0)):
            length = math.hypot(x1 - x0, y1 - y0)
            ux, uy = (x1 - x0) / length, (y1 - y0) / length
            bx, by = x1 - ux * head, y1 - uy * head
            d.line((x0 - ux * extra, y0 - uy * extra, bx, by), fill=color, width=round(t + 2 * extra))
            hw, tip = head * 0.8 + extra * 1.3, extra * 1.6
            d.polygon(
                [
                    (x1 + ux * tip, y1 + uy * tip),
                    (bx - uy * hw - ux * extra, by + ux * hw - uy * extra),
                    (bx + uy * hw - ux * extra, by - ux * hw - uy * extra),
                ],
                fill=color,
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
        for color, extra in ((rim, side * 0.05), (ink, 0.0)):
            near, far = m - r - t / 2 - extra, m + r + t / 2 + extra
            d.arc((near, near, far, far), start, start + 270, fill=color, width=round(t + 2 * extra))
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
        for color, extra in ((rim, side * 0.05), (ink, 0.0)):
            _word(d, motion, side, t, color, extra)
    drawing = drawing.resize((box, box), Image.Resampling.LANCZOS)
    return drawing.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.6)))


def _word(d: ImageDraw.ImageDraw, word: str, side: float, t: float, color: tuple, extra: float) -> None:
    """Draw the sign of one of WORDS in one color, its lines ``extra`` px thicker on each side."""
    m, lo, hi = side / 2, side * 0.14, side * 0.86

    def disc(x: float, y: float, r: float) -> None:
        d.ellipse((x - r - extra, y - r - extra, x + r + extra, y + r + extra), fill=color)

    def line(*points: tuple[float, float]) -> None:
        d.line(points, fill=color, width=round(t + 2 * extra), joint="curve")

    def triangle(y: float) -> None:
        r = side * 0.19 + extra
        d.polygon([(m, y - r), (m + r, y + r * 0.8), (m - r, y + r * 0.8)], fill=color)

    def star(y: float) -> None:
        r = side * 0.2 + extra
        for a in range(0, 180, 45):
            dx, dy = r * math.cos(math.radians(a)), r * math.sin(math.radians(a))
            d.line((m - dx, y - dy, m + dx, y + dy), fill=color, width=round(t * 0.5 + 2 * extra))

    if word == "circling":  # a closed ring round a dot
        r = side * 0.36 + extra + t / 2
        d.ellipse((m - r, m - r, m + r, m + r), outline=color, width=round(t + 2 * extra))
        disc(m, m, side * 0.08)
    elif word == "bouncing":  # three humps
        for k in range(3):
            x, w = lo + (hi - lo) * (k + 0.5) / 3, (hi - lo) / 6
            box = (x - w - extra, m - side * 0.2 - extra, x + w + extra, m + side * 0.3 + extra)
            d.arc(box, 180, 360, fill=color, width=round(t * 0.8 + 2 * extra))
    elif word == "zig-zagging":  # a flash of lightning
        line((m + side * 0.2, lo), (m - side * 0.2, m), (m + side * 0.2, m), (m - side * 0.2, hi))
    elif word == "fading":  # squares that shrink downwards
        for y, r in ((0.24, 0.15), (0.55, 0.1), (0.8, 0.05)):
            r, y = r * side + extra, y * side
            d.rectangle((m - r, y - r, m + r, y + r), fill=color)
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
