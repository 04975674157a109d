"""Moments as annotation tools keep them: BORIS, ELAN, Label Studio; and a plain table.

`stopcli.data.annotations.reading` and `stopcli.data.table` read them back.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from stopcli import __version__
from stopcli.fileio import to_json
from stopcli.output.export.marks import Mark, Media, apart
from stopcli.output.html import address
from stopcli.output.sink import safe_cell, safe_path
from stopcli.results import printable

Marks = Mapping[str, Sequence[Mark]]  # by video
BORIS = "7.0"  # the version of the project's format
ELAN = (  # where the format is described
    "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation",
    "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
)
COLUMNS = ("path", "start", "end", "label", "score", "confidence", "first_frame", "end_frame", "fps")


def table(marks: Marks, media: Mapping[str, Media], names: Mapping[str, str]) -> str:
    """Return a CSV: seconds, and frames from 0 on; ``names`` say how videos are called in the file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for path, moments in marks.items():
        for mark in moments:
            first, end = media[path].span(mark)
            times = (f"{mark.start:.3f}", f"{mark.end:.3f}")
            rate = f"{float(media[path].rate):.6g}"
            texts = (printable(safe_path(names[path]), keep="\t\n"), *times, safe_cell(mark.text))
            sure = "" if mark.confidence is None else f"{mark.confidence:.4f}"
            writer.writerow((*texts, f"{mark.score:.4f}", sure, first, end, rate))
    return out.getvalue()


def boris(marks: Marks, media: Mapping[str, Media], names: Mapping[str, str]) -> str:
    """Return a whole BORIS project: an observation of each video, a state event for each moment."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    codes = list(dict.fromkeys(m.text for moments in marks.values() for m in moments))
    behaviors = {
        str(i): {
            "type": "State event", "key": str((i + 1) % 10), "code": code, "description": "", "color": "",
            "category": "", "modifiers": "", "excluded": "", "coding map": "",
        }
        for i, code in enumerate(codes)
    }  # fmt: skip
    observations = {names[p]: _observation(m, media[p], names[p], now) for p, m in marks.items()}
    project: dict[str, Any] = {
        "time_format": "hh:mm:ss", "project_date": now, "project_name": "stop",
        "project_description": f"made by stopcli {__version__}", "project_format_version": BORIS,
        "subjects_conf": {}, "behaviors_conf": behaviors, "observations": observations,
        "behavioral_categories": [], "independent_variables": {}, "coding_map": {},
        "behaviors_coding_map": [], "converters": {},
    }  # fmt: skip
    return to_json(project, indent=1)


def _observation(moments: Sequence[Mark], media: Media, name: str, now: str) -> dict[str, Any]:
    events: list[list[Any]] = []
    for mark in apart(moments):
        events += [[round(t, 3), "", mark.text, "", mark.remark] for t in (mark.start, mark.end)]
    facts = media.facts
    info = {
        "length": {name: facts.end}, "fps": {name: float(media.rate)},
        "hasVideo": {name: True}, "hasAudio": {name: facts.sound}, "offset": {"1": 0.0},
    }  # fmt: skip
    players = {str(n): [name] if n == 1 else [] for n in range(1, 9)}
    return {
        "file": players, "type": "MEDIA", "date": now, "description": "", "time offset": 0.0,
        "events": sorted(events, key=lambda e: float(e[0])), "observation time interval": [0, 0],
        "independent_variables": {}, "visualize_spectrogram": False, "visualize_waveform": False,
        "close_behaviors_between_videos": False, "media_info": info,
    }  # fmt: skip


def elan(moments: Sequence[Mark], video: Media, name: str) -> str:
    """Return an ELAN document (EAF 3.0) of one video: a tier a query, or one of all labels."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
    made = {"AUTHOR": "stopcli", "DATE": now, "FORMAT": "3.0", "VERSION": "3.0"}
    root = ElementTree.Element("ANNOTATION_DOCUMENT", {**made, ELAN[0]: ELAN[1]})
    head = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    kind = "video/mp4" if name.lower().endswith((".mp4", ".m4v", ".mov")) else "video/*"
    places = {"MEDIA_URL": address(video.path), "RELATIVE_MEDIA_URL": quote(os.fsencode(f"./{name}"))}
    ElementTree.SubElement(head, "MEDIA_DESCRIPTOR", {**places, "MIME_TYPE": kind})
    moments = apart(moments)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    times = sorted({round(1000 * t) for mark in moments for t in (mark.start, mark.end)})
    slots = {time: f"ts{i}" for i, time in enumerate(times, 1)}
    for time, slot in slots.items():
        ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(time))
    tiers: dict[str, list[Mark]] = {}
    for mark in moments:
        tiers.setdefault(mark.text if mark.query else "labels", []).append(mark)
    number = 0
    for tier, inside in tiers.items():
        at = {"TIER_ID": xml_text(tier), "LINGUISTIC_TYPE_REF": "default-lt"}
        element = ElementTree.SubElement(root, "TIER", at)
        for mark in inside:
            number += 1
            holder = ElementTree.SubElement(element, "ANNOTATION")
            start, end = (slots[round(1000 * t)] for t in (mark.start, mark.end))
            place = {"ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": start, "TIME_SLOT_REF2": end}
            aligned = ElementTree.SubElement(holder, "ALIGNABLE_ANNOTATION", place)
            ElementTree.SubElement(aligned, "ANNOTATION_VALUE").text = xml_text(mark.text)
    free = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", free)
    return as_xml(root)


def label_studio(marks: Marks, media: Mapping[str, Media], names: Mapping[str, str]) -> str:
    """Return tasks with predictions; Label Studio counts frames from 1, the last one included.

    It divides a player's time by the rate that its Video tag has, which may take it from the task: ``$fps``.
    """
    tasks = []
    for path, moments in marks.items():
        results, rate = [], media[path].rate
        for i, mark in enumerate(moments):
            first = round(mark.start * rate)
            end = max(first + 1, round(mark.end * rate))
            value = {"ranges": [{"start": first + 1, "end": end}], "timelinelabels": [mark.text]}
            seconds = f"{mark.start:.3f}-{mark.end:.3f} s"
            result = {"id": f"m{i + 1}", "type": "timelinelabels", "from_name": "label", "to_name": "video"}
            results.append(result | {"value": value, "score": mark.score, "meta": {"text": [seconds]}})
        made = {"model_version": f"stopcli {__version__}", "result": results}
        data = {"video": names[path], "fps": round(float(rate), 6)}
        tasks.append({"data": data, "predictions": [made]})
    return to_json(tasks, indent=1)


def xml_text(text: str) -> str:
    """Return a text without the characters that XML 1.0 cannot hold."""
    return printable(text, keep="\t\n")


def as_xml(root: ElementTree.Element, doctype: str = "") -> str:
    """Return a document with a line an element."""
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{doctype}{body}\n'
