"""Filmstrips in the terminal: pixels through textual-image (the extra "preview"), else half blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import InputError
from stopcli.results import Hit, printable, span
from stopcli.video.sampling import sample_times
from stopcli.video.workers.pool import read_pictures

if TYPE_CHECKING:
    from rich.console import Console

PICTURES = 6
ROWS = 8  # of characters, where pictures are made of them


def show(console: Console, hits: Sequence[Hit]) -> None:
    """Print a filmstrip of each hit's moment, under its name."""
    from rich.text import Text

    for hit in hits:
        name = f"{hit.rank}. {hit.score:.3f} {hit.path} {span(hit.start, hit.end)}"
        console.print(Text(printable(name)))
        strip = filmstrip(hit, 2 * ROWS * 8)
        if strip is not None:
            console.print(_drawn(strip, console.width))


def filmstrip(hit: Hit, height: int) -> NDArray[np.uint8] | None:
    """Return pictures of a moment side by side (H,W,3); None where the video cannot be read."""
    start, end = hit.start or 0.0, hit.end
    try:
        times = sample_times(end - start, PICTURES, start) if end is not None else np.arange(PICTURES) * 1.0
        pictures = read_pictures(hit.path, list(times), height)
    except InputError:
        return None
    lowest = min(p.shape[0] for p in pictures)
    return np.concatenate([p[:lowest] for p in pictures], 1)


def _drawn(strip: NDArray[np.uint8], width: int) -> Any:
    """Return what Rich prints for a strip: graphics of the terminal, or half blocks."""
    from PIL import Image

    image = Image.fromarray(strip)
    columns = min(width, round(2 * ROWS * image.width / image.height))
    try:
        from textual_image.renderable import Image as Graphics
    except ImportError:
        return _half_blocks(image, columns)
    return Graphics(image, width=columns, height="auto")


def _half_blocks(image: Any, columns: int) -> Any:
    """Return a picture made of upper half blocks: two pixels a character."""
    from rich.style import Style
    from rich.text import Text

    rows = max(1, round(columns * image.height / image.width / 2))
    pixels = np.asarray(image.resize((columns, 2 * rows)))
    out = Text()
    for y in range(0, 2 * rows, 2):
        for above, below in zip(pixels[y], pixels[y + 1], strict=True):
            colors = ["#{:02x}{:02x}{:02x}".format(*map(int, p)) for p in (above, below)]
            out.append("▀", Style(color=colors[0], bgcolor=colors[1]))
        out.append("\n")
    return out
