"""ELAN's files; source: its EAF 3.0 schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from stopcli.data.annotations.media import Cells, beside, is_video
from stopcli.data.tablefile import read_text, short
from stopcli.fileio import is_file


def read_elan(path: Path, notes: list[str]) -> Iterator[Cells | str]:
    """Yield the annotations of all tiers of an ELAN file that have times of their own.

    A video's own time is the annotation's and its TIME_ORIGIN.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares entities, which ELAN never does")
    root = ElementTree.fromstring(text)
    found = [m for m in root.iter("MEDIA_DESCRIPTOR") if is_video(m.get("MEDIA_URL") or "")]
    if not found:
        raise ValueError("it names no video")
    media = found[0]
    given = [media.get("RELATIVE_MEDIA_URL") or "", media.get("MEDIA_URL") or ""]
    places = [beside(path, g.removeprefix("file://")) for g in given if g]
    video = next((p for p in places if is_file(path.parent / p)), places[0] if places else "")
    origin = float(media.get("TIME_ORIGIN") or 0) / 1000
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    tiers = []
    for tier in root.iter("TIER"):
        aligned = list(tier.iter("ALIGNABLE_ANNOTATION"))
        tiers += [tier.get("TIER_ID")] if aligned else []
        for annotation in aligned:
            text = (annotation.findtext("ANNOTATION_VALUE") or "").strip()
            start, end = (times.get(annotation.get(f"TIME_SLOT_REF{i}")) for i in (1, 2))
            if not text:
                continue
            if start is None or end is None:
                yield f"{short(text)!r} has no time"
                continue
            seconds = [float(value) / 1000 + origin for value in (start, end)]
            yield {"path": video, "text": text, "start": seconds[0], "end": seconds[1]}
    if len(tiers) > 1:
        notes.append(
            f"{path.name}: the labels of {len(tiers)} tiers are taken together: {', '.join(map(str, tiers))}"
        )
