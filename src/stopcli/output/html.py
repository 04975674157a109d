"""Pages that need nothing but a browser; Jinja2 escapes every text in ``templates/``.

Videos play from where they lie, at their moment. ``provenance`` is a sentence on how a page was made.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import InputError
from stopcli.output.explanation import gaze, heat, shown_labels, title_of, unsure
from stopcli.results import Classification, Explanation, Hit, clock, printable, span
from stopcli.video.workers.pool import read_facts, read_pictures

if TYPE_CHECKING:
    from jinja2 import Environment

SIDE = 200  # pixels; the short side of a thumbnail
HUES = (220, 25, 140, 275, 190, 345, 85, 50)


def hits_page(hits: Sequence[Hit], provenance: str) -> str:
    """Return a document with the hits of each query, best first, and a picture of their moment."""
    queries = list(dict.fromkeys(hit.query for hit in hits)) or ["No hits"]
    return _render("hits.html", provenance, title=f"{queries[0]} - stop retrieve", queries=queries, hits=hits)


def timeline_page(classifications: Sequence[Classification], provenance: str) -> str:
    """Return a document with a line for each video: what each window was called, in order of time."""
    labels = dict.fromkeys(result.scores[0].label for result in classifications)
    videos: dict[str, list[Classification]] = {}
    for result in classifications:
        videos.setdefault(result.path, []).append(result)
    lengths = {path: max(w.end or 0.0 for w in windows) or _length(path) for path, windows in videos.items()}
    hues = {label: hue(i) for i, label in enumerate(labels)}
    title = "Timeline - stop classify"
    return _render("timeline.html", provenance, title=title, videos=videos, lengths=lengths, hues=hues)


def _length(path: str) -> float:
    try:
        return read_facts(path).end
    except InputError:  # it went away since it was classified
        return 1.0


def explanation_page(explanation: Explanation, provenance: str) -> str:
    """Return a document with what a model looks at in a clip, and how to read it."""
    middles = explanation.spans.mean(1)
    values = {"explanation": explanation, "series": _series(explanation, middles), "middles": middles}
    return _render("explanation.html", provenance, title=title_of(explanation), **values)


def _series(explanation: Explanation, middles: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return the labels' lines: a hue, the score of the whole clip, and points in percent of the chart."""
    across = 100 * (middles - middles[:1]) / max(1e-9, np.ptp(middles)) if len(middles) else middles

    def points(shares: NDArray[np.float32]) -> str:
        return " ".join(f"{x:.2f},{100 - 100 * y:.2f}" for x, y in zip(across, shares, strict=True))

    look, plain = explanation.look, explanation.plain
    return [
        {
            "label": explanation.labels[c],
            "hue": hue(k),
            "whole": f"{look.whole[c]:.0%}",
            "points": points(look.shares[:, c]),
            "scores": [f"{y:.0%}" for y in look.shares[:, c]],
            "plain": None
            if plain is None
            else {"whole": f"{plain.whole[c]:.0%}", "points": points(plain.shares[:, c])},
        }
        for k, c in enumerate(shown_labels(explanation))
    ]


class Run(NamedTuple):
    """Neighbouring windows of one label; the last one of a file ends with it (None)."""

    label: str
    start: float | None
    end: float | None


def runs_of(windows: Sequence[Classification]) -> list[Run]:
    """Return the stretches of a file that have one label each, in order of time; a gap ends one."""
    runs: list[Run] = []
    for window in windows:
        label = window.scores[0].label
        if runs and (runs[-1].label, runs[-1].end) == (label, window.start):
            runs[-1] = runs[-1]._replace(end=window.end)
        else:
            runs.append(Run(label, window.start, window.end))
    return runs


def address(path: str) -> str:
    """Return a file's address; any bytes that a name may hold survive."""
    return Path(os.path.abspath(path)).as_uri()  # noqa: PTH100 - resolve() would follow links


def thumbnail(path: str, at: float) -> str | None:
    """Return a picture of a moment (seconds) as a data address; None where the video cannot be read."""
    try:
        (pixels,) = read_pictures(path, [at], SIDE)
    except InputError:
        return None
    return jpeg(pixels)


def jpeg_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture (H,W,3) as a JPEG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def jpeg(pixels: NDArray[np.uint8]) -> str:
    """Return a picture (H,W,3) as a data address."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg_bytes(pixels)).decode()


def _where(path: str, start: float | None = None, end: float | None = None) -> str:
    return address(path) + (f"#t={start:g},{end:g}" if start is not None and end is not None else "")


def hue(i: int) -> int:
    """Return the hue of the i-th label, in degrees."""
    return (HUES[i % len(HUES)] + 13 * (i // len(HUES))) % 360


@cache
def environment() -> Environment:
    """Return the templates, and what they may call."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("stopcli", "output/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"jpeg": jpeg, "printable": printable}
    made.globals |= {"where": _where, "clock": clock, "span": span, "thumbnail": thumbnail}
    made.globals |= {"runs_of": runs_of, "heat": heat, "gaze": gaze, "unsure": unsure}
    made.globals |= {"basename": os.path.basename, "argwhere": np.argwhere}
    return made


def _render(template: str, provenance: str, **values: Any) -> str:
    return environment().get_template(template).render(provenance=provenance, **values)
