"""OpenTimelineIO's files; source: its schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stopcli.data.annotations.media import Cells, beside, facts_of, is_video, plain_path
from stopcli.data.tablefile import read_text, short
from stopcli.fileio import is_file


def read_otio(path: Path, _: list[str]) -> Iterator[Cells | str]:
    """Yield the markers of an OpenTimelineIO file that last; of a clip with none, the clip itself."""
    for number, clip in enumerate(_clips(json.loads(read_text(path))), 1):
        named = clip.get("media_references") or {}
        key = clip.get("active_media_reference_key") or "DEFAULT_MEDIA"
        media: dict[str, Any] = clip.get("media_reference") or named.get(key) or {}
        address = media.get("target_url") or ""
        if not is_video(address):
            yield f"clip {number} ({short(clip.get('name') or '')!r}) has no video"
            continue
        place, whole = beside(path, address), media.get("available_range")
        if not is_file(path.parent / place):
            yield {
                "path": plain_path(address),
                "text": clip.get("name") or f"clip {number}",
            }  # a fault of this row
            continue
        zero = _seconds(whole)[0] if whole else 0.0
        offset = facts_of(path.parent / place).offset
        lasting = [m for m in clip.get("markers") or [] if m["marked_range"]["duration"]["value"] > 0]
        points = [m["name"] for m in clip.get("markers") or [] if m not in lasting and m.get("name")]
        text, used = (points or [clip.get("name") or ""])[0], clip.get("source_range") or whole
        spans = [(m["name"], m["marked_range"]) for m in lasting] or [(text, used)]
        for name, span in spans:
            if span is None:
                yield f"clip {number} ({short(name)!r}) has no time"
                continue
            since, until = (t - zero + offset for t in _seconds(span))
            yield {"path": place, "text": name, "start": max(0.0, since), "end": until}


def _clips(item: Any) -> Iterator[dict[str, Any]]:
    if isinstance(item, dict) and str(item.get("OTIO_SCHEMA", "")).startswith("Clip."):
        yield item
    elif isinstance(item, dict | list):
        for inner in item.values() if isinstance(item, dict) else item:
            yield from _clips(inner)


def _seconds(span: dict[str, Any]) -> tuple[float, float]:
    """Return the start and the end of an OpenTimelineIO time range."""
    start, length = (float(span[k]["value"]) / float(span[k]["rate"]) for k in ("start_time", "duration"))
    return start, start + length
