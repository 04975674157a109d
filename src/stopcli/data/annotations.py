"""Labels as other tools keep them: BORIS, ELAN, Label Studio, subtitles, OpenTimelineIO.

Each reader turns a file into the cells of rows, or into what is wrong with one. Where no text occurs twice,
annotations are captions; else they are labels. Sources: BORIS' project files, ELAN's EAF 3.0 schema, Label
Studio's JSON and JSON-MIN exports, SubRip and WebVTT, OpenTimelineIO's schemas.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from stopcli.data.tablefile import Record, read_text, short
from stopcli.errors import BadDataset, InputError
from stopcli.fileio import is_file
from stopcli.video.container import Facts
from stopcli.video.discovery import EXTENSIONS
from stopcli.video.workers.pool import read_facts

POINT = 1.0  # seconds on both sides of an event that has no end
BOOKKEEPING = {  # what Label Studio itself says of a task in JSON-MIN
    "id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement",
}  # fmt: skip
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before a file's name
TIME = r"((?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3})"
CUE = re.compile(rf"^\s*{TIME}\s+-->\s+{TIME}")
VIDEO_NOTE = re.compile(r"^NOTE video: (.+)$", re.MULTILINE)  # in WebVTT, as `stop` exports it
TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")

Cells = dict[str, Any]


def read_annotations(path: Path, notes: list[str]) -> list[Cells | str] | None:
    """Return the cells of each annotation of a file, or None for a file of another kind.

    ``notes`` gets what was understood in another way than one may think. Raises BadDataset where it is not
    what its suffix says.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        return None
    try:
        cells = list(reader(path, notes))
    except OSError as error:
        raise BadDataset(f"{path}: not readable ({error.strerror})") from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        ArithmeticError,
        SyntaxError,
        RecursionError,
    ) as error:
        kind = KINDS[path.suffix.lower()]
        raise BadDataset(
            f"{path}: not as {kind} writes it ({short(error) or type(error).__name__})"
        ) from error
    if not cells:
        raise BadDataset(f"{path}: no annotation in it")
    if not any(isinstance(c, dict) for c in cells):
        raise BadDataset(f"{path}: {cells[0]}")
    return cells


def as_records(source: Path, cells: list[Cells | str], notes: list[str]) -> list[Record]:
    """Return annotations as rows of a table: with labels, or with captions where no text occurs twice."""
    texts = Counter(c["text"] for c in cells if isinstance(c, dict))
    column = "label" if max(texts.values(), default=0) > 1 or len(texts) < 2 else "caption"
    if column == "caption":
        notes.append(f"{source.name}: no text occurs twice, so they are captions, not labels")
    named = [
        c if isinstance(c, str) else {column if k == "text" else k: v for k, v in c.items()} for c in cells
    ]
    return list(enumerate(named, 1))


def _boris(path: Path, notes: list[str]) -> Iterator[Cells | str]:
    """Yield the events of a BORIS project: of states from start to stop, of points a second on both sides."""
    project = json.loads(read_text(path))
    points = False
    for name, observation in project["observations"].items():
        players = observation.get("file") or {}
        files = [f for f in (players.get("1") if isinstance(players, dict) else None) or [] if f]
        if not files:
            yield f"observation {short(name)!r} has no video"
            continue
        lengths = (observation.get("media_info") or {}).get("length") or {}
        offset = float(observation.get("time offset", 0) or 0)
        open_since: dict[tuple[str, ...], float] = {}
        kinds = {b["code"]: b["type"] for b in project.get("behaviors_conf", {}).values()}
        for event in sorted(observation.get("events", []), key=lambda e: float(e[0])):
            time, subject, code = float(event[0]) - offset, str(event[1]), str(event[2])
            key = (subject, code, str(event[3]) if len(event) > 3 else "")
            if str(kinds.get(code, "State event")).lower().startswith("point"):
                start, end, points = max(0.0, time - POINT), time + POINT, True
            elif key not in open_since:
                open_since[key] = time
                continue
            else:
                start, end = open_since.pop(key), time
            file, before = _part(files, lengths, start)
            yield {"path": _beside(path, file), "text": code, "start": start - before, "end": end - before}
        for (_, code, _), since in open_since.items():
            yield f"{short(code)!r} in {short(name)!r} begins at {since:g} s and never stops"
    if points:
        notes.append(f"{path.name}: events without an end are taken as {2 * POINT:g} s around them")


def _part(files: list[str], lengths: dict[str, Any], time: float) -> tuple[str, float]:
    """Find in which of the files that are played in a row a time lies, and when that one begins."""
    before = 0.0
    for file in files[:-1]:
        length = float(lengths.get(file, 0))
        if not length or time < before + length:
            return file, before
        before += length
    return files[-1], before


def _elan(path: Path, notes: list[str]) -> Iterator[Cells | str]:
    """Yield the annotations of all tiers of an ELAN file that have times of their own.

    A video's own time is the annotation's and its TIME_ORIGIN.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares entities, which ELAN never does")
    root = ElementTree.fromstring(text)
    found = [m for m in root.iter("MEDIA_DESCRIPTOR") if _is_video(m.get("MEDIA_URL") or "")]
    if not found:
        raise ValueError("it names no video")
    media = found[0]
    given = [media.get("RELATIVE_MEDIA_URL") or "", media.get("MEDIA_URL") or ""]
    places = [_beside(path, g.removeprefix("file://")) for g in given if g]
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


def _subtitles(path: Path, _: list[str]) -> Iterator[Cells | str]:
    """Yield the cues of a subtitle file; its video has the same name, or is named in a note."""
    text = read_text(path)
    beside = sorted(path.parent.glob(f"{_literal(path.stem)}.*"))
    video = next((p.name for p in beside if p.suffix.lower() in EXTENSIONS), None)
    if named := VIDEO_NOTE.search(text):
        video = _beside(path, named[1].strip())
    if video is None:
        raise ValueError(f"no video {path.stem}.mp4, .mkv or the like beside it")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    cues = [(i, times) for i, line in enumerate(lines) if (times := CUE.match(line))]
    ends = [i for i, _ in cues[1:]] + [len(lines)]
    for (i, times), after in zip(cues, ends, strict=False):
        words: list[str] = []
        for line in lines[i + 1 : after]:
            if not line.strip():
                break
            words.append(line.strip())
        else:  # no empty line: the next cue's number may be the last
            if after < len(lines) and words and words[-1].isdigit():
                words.pop()
        text = html.unescape(TAG.sub("", " ".join(words))).strip()
        if text:
            yield {"path": video, "text": text, "start": times[1], "end": times[2]}


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _label_studio(path: Path, notes: list[str]) -> Iterator[Cells | str]:
    """Yield the labels of a Label Studio export; frames of a timeline are counted at the video's own rate."""
    tasks = json.loads(read_text(path))
    if not isinstance(tasks, list):
        raise TypeError("a list of tasks was expected")
    known: dict[str, Facts] = {}
    if any(t.get("predictions") and not t.get("annotations") for t in tasks):
        notes.append(f"{path.name}: predictions that nobody has accepted yet are taken as labels")
    for number, task in enumerate(tasks, 1):
        data = task.get("data", task)
        video = next((v for v in data.values() if isinstance(v, str) and _is_video(v)), None)
        if video is None:
            yield f"task {number} names no video"
            continue
        place = _beside(path, video)
        values = [
            result["value"]
            for annotation in task.get("annotations") or task.get("predictions") or []
            if not annotation.get("was_cancelled")
            for result in annotation.get("result", [])
            if isinstance(result.get("value"), dict)
        ]
        if "annotations" not in task and "predictions" not in task:  # JSON-MIN
            own = {k: v for k, v in task.items() if k not in BOOKKEEPING and v != video}
            texts = {k: v for k, v in own.items() if isinstance(v, str)}
            if len(texts) > 1:
                yield f"task {number} has several texts ({', '.join(texts)}); export it as JSON"
                continue
            values = [one for v in own.values() for one in (v if isinstance(v, list) else [v])]
            values = [{"choices": [v]} if isinstance(v, str) else v for v in values]
            values = [v for v in values if isinstance(v, dict)]
        said: list[Cells | str] = []  # two annotators may agree
        for value in values:
            said += [c for c in _studio_value(path, place, value, known, notes) if c not in said]
        yield from said


def _studio_value(
    path: Path, place: str, value: Cells, known: dict[str, Facts], notes: list[str]
) -> Iterator[Cells | str]:
    if "choices" in value:
        yield from ({"path": place, "text": str(text)} for text in value["choices"])
    for text in value.get("timelinelabels", []):
        if not is_file(path.parent / place):
            yield {"path": place, "text": str(text)}  # a fault of this row
            continue
        if (facts := known.get(place)) is None:
            facts = known[place] = facts_of(path.parent / place)
            notes.append(f"{path.name}: frames of {place} are counted at its own {facts.rate:g} a second")
        for span in value["ranges"]:  # whole frames from 1; the last one is included
            frames = float(span["start"]) - 1, float(span["end"])
            start, end = (facts.offset + frame / facts.rate for frame in frames)
            yield {"path": place, "text": str(text), "start": start, "end": end}
    if "start" in value and "end" in value:
        for text in value.get("labels", []):
            span = {"start": float(value["start"]), "end": float(value["end"])}
            yield {"path": place, "text": str(text), **span}
    if "sequence" in value:  # boxes through time
        times = [float(key["time"]) for key in value["sequence"] if "time" in key]
        for text in value.get("labels", []) if times else ():
            yield {"path": place, "text": str(text), "start": min(times), "end": max(times)}


def _otio(path: Path, _: list[str]) -> Iterator[Cells | str]:
    """Yield the markers of an OpenTimelineIO file that last; of a clip with none, the clip itself."""
    for number, clip in enumerate(_clips(json.loads(read_text(path))), 1):
        named = clip.get("media_references") or {}
        key = clip.get("active_media_reference_key") or "DEFAULT_MEDIA"
        media: dict[str, Any] = clip.get("media_reference") or named.get(key) or {}
        address = media.get("target_url") or ""
        if not _is_video(address):
            yield f"clip {number} ({short(clip.get('name') or '')!r}) has no video"
            continue
        place, whole = _beside(path, address), media.get("available_range")
        if not is_file(path.parent / place):
            yield {
                "path": _plain_path(address),
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


def _is_video(text: str) -> bool:
    return PurePosixPath(_plain_path(text)).suffix.lower() in EXTENSIONS


def _plain_path(text: str) -> str:
    """Return the path of what may be an address; Label Studio keeps that of a local file in its query."""
    if re.match(r"[A-Za-z]:[/\\\\]", text):  # a drive, no address
        return text
    parts = urlsplit(text)
    wanted = parse_qs(parts.query).get("d")
    return wanted[0] if wanted else unquote(parts.path if "://" in text else text)


def _beside(path: Path, given: str) -> str:
    """Return where a file is that an annotation names: there, or by its name beside the annotations."""
    plain = _plain_path(given).replace("\\", "/")
    name = PurePosixPath(plain).name
    as_given = given.replace("\\", "/")  # most programs write paths as they are
    for place in (as_given, PurePosixPath(as_given).name, plain, name, UPLOADED.sub("", name)):
        if place and is_file(path.parent / place):
            return place
    return name or plain


def facts_of(path: Path) -> Facts:
    """Return what a video says of itself; ValueError where it cannot be read."""
    try:
        return read_facts(path)
    except InputError as error:
        raise ValueError(str(error)) from error


Reader = Callable[[Path, list[str]], Iterable[Cells | str]]
READERS: dict[str, Reader] = {
    ".boris": _boris,
    ".eaf": _elan,
    ".srt": _subtitles,
    ".vtt": _subtitles,
    ".json": _label_studio,
    ".otio": _otio,
}
CERTAIN = {".boris", ".eaf", ".otio"}  # nothing else has these
KINDS = {
    ".boris": "BORIS", ".eaf": "ELAN", ".srt": "SubRip", ".vtt": "WebVTT", ".json": "Label Studio",
    ".otio": "OpenTimelineIO",
}  # fmt: skip
