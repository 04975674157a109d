"""Pages that need nothing but a browser: hits with pictures, a timeline, an explanation.

One file each, no script from elsewhere; videos play from where they lie, at their moment (media
fragments). The templates are in ``templates/``, and Jinja2 escapes every text in them.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import InputError
from stopcli.output.explanation import heat, shown_labels
from stopcli.output.sink import printable
from stopcli.results import Classification, Explanation, Hit, clock, span
from stopcli.video.clips import read_pictures

if TYPE_CHECKING:
    from jinja2 import Environment

SIDE = 200  # pixels; the short side of a thumbnail
HUES = (220, 25, 140, 275, 190, 345, 85, 50)


def hits_page(hits: Sequence[Hit], provenance: str) -> str:
    """Show the hits of each query with a picture of their moment; return the whole document.

    Args:
        hits: query by query, best first.
        provenance: one sentence on how they were found.
    """
    queries = list(dict.fromkeys(hit.query for hit in hits)) or ["No hits"]
    return _render("hits.html", provenance, title=f"{queries[0]} - stop retrieve", queries=queries, hits=hits)


def timeline_page(classifications: Sequence[Classification], provenance: str) -> str:
    """Show what each window of each video was called, one line a video; return the whole document.

    Args:
        classifications: windows in order of time, video by video.
        provenance: one sentence on how they were classified.
    """
    labels = dict.fromkeys(result.scores[0].label for result in classifications)
    videos: dict[str, list[Classification]] = {}
    for result in classifications:
        videos.setdefault(result.path, []).append(result)
    lengths = {path: max(w.end or 0.0 for w in windows) or 1.0 for path, windows in videos.items()}
    hues = {label: _hue(i) for i, label in enumerate(labels)}
    values = {"title": "Timeline - stop classify", "videos": videos, "lengths": lengths, "hues": hues}
    return _render("timeline.html", provenance, **values)


def explanation_page(explanation: Explanation, provenance: str) -> str:
    """Show what the prompts did in a clip, and how to read it; return the whole document.

    Args:
        explanation: what to show.
        provenance: one sentence on how it was made.
    """
    times, counts = explanation.times, explanation.counts
    spatial, temporal = len(explanation.regions) > 0, bool(counts.any())
    frames = [
        {
            "time": f"{time:.1f} s",
            "picture": jpeg(explanation.frames[i]),
            "regions": np.argwhere(explanation.regions[i]).tolist() if spatial else [],
            "heat": jpeg(heat(explanation, i)) if spatial else None,
            "prompts": int(counts[i]) if temporal and i < len(counts) else None,
        }
        for i, time in enumerate(times)
    ]
    middles = explanation.spans.mean(1)
    across = 100 * (middles - middles[:1]) / max(1e-9, np.ptp(middles)) if len(middles) else middles
    series = [
        {
            "label": explanation.labels[c],
            "hue": _hue(k),
            "whole": f"{explanation.whole[c]:.0%}",
            "points": " ".join(
                f"{x:.2f},{100 - 100 * share:.2f}"
                for x, share in zip(across, explanation.shares[:, c], strict=True)
            ),
        }
        for k, c in enumerate(shown_labels(explanation))
    ]
    return _render(
        "explanation.html",
        provenance,
        title=f"{Path(explanation.path).name}: what STOP looks at",
        explanation=explanation,
        spatial=spatial,
        temporal=temporal,
        grid=explanation.regions.shape[1:] if spatial else (1, 1),
        frames=frames,
        series=series,
        middles=middles,
    )


def address(path: str) -> str:
    """Return a file's address; any bytes that a name may hold survive."""
    return "file://" + quote(os.fsencode(os.path.abspath(path)))  # noqa: PTH100 - resolve() would follow links


def thumbnail(path: str, at: float) -> str | None:
    """Return a picture of a moment (seconds) as a data address; None where the video cannot be read."""
    try:
        (pixels,) = read_pictures(path, [at], SIDE)
    except InputError:
        return None
    return jpeg(pixels)


def jpeg(pixels: NDArray[np.uint8]) -> str:
    """Return a picture (H,W,3) as a data address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _moment(path: str, start: float | None, end: float | None) -> str:
    return address(path) + (f"#t={start:g},{end:g}" if start is not None and end is not None else "")


def _poster(hit: Hit) -> str | None:
    middle = (hit.start + hit.end) / 2 if hit.start is not None and hit.end is not None else 0.0
    return thumbnail(hit.path, middle)


def _hue(i: int) -> int:
    """Return the hue of the i-th label, in degrees."""
    return (HUES[i % len(HUES)] + 13 * (i // len(HUES))) % 360


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stopcli", "output/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": _moment,
        "name": lambda path: printable(Path(path).name),
        "poster": _poster,
        "printable": printable,
    }
    environment.globals |= {"clock": clock, "span": span, "thumbnail": thumbnail}
    return environment


def _render(template: str, provenance: str, **values: Any) -> str:
    return _environment().get_template(template).render(provenance=provenance, **values)
