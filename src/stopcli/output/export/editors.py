"""Moments as film editors take them: OpenTimelineIO, EDL, FCPXML and Final Cut Pro 7's XML.

Hits become clips in the order of their rank; classified videos stand whole, one after the other, with
their labels as markers. Timelines start at one hour, as Resolve's do. Sources: CMX 3600 EDL,
Apple's FCPXML 1.9 reference, OpenTimelineIO's schemas.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from stopcli.output.export.annotators import as_xml, xml_text
from stopcli.output.export.marks import RATES, Mark, Media, by_video, nudged
from stopcli.output.html import address
from stopcli.results import printable
from stopcli.video.container import Facts
from stopcli.video.cut.timecode import drops, frame_number, timecode

COLORS = ("RED", "GREEN", "BLUE", "YELLOW", "CYAN", "MAGENTA", "PURPLE", "ORANGE", "PINK")
TITLE = 70  # characters


@dataclass(frozen=True)
class Marker:
    """A name on frames of a clip, counted from the start of its video; a point where ``end`` is ``first``."""

    first: int
    end: int
    mark: Mark
    color: str


@dataclass(frozen=True)
class Clip:
    """A part of a video on the timeline: frames from ``first`` to before ``end`` of the video's own."""

    media: Media
    first: int
    end: int
    name: str
    markers: list[Marker] = field(default_factory=list)


@dataclass(frozen=True)
class Cut:
    """What a timeline shows, one clip after the other; ``rate`` is a standard one, near most clips' own."""

    title: str
    rate: Fraction
    clips: list[Clip]

    @property
    def start(self) -> int:
        """The number of the first frame on the timeline."""
        return frame_number("01:00:00;00" if drops(self.rate) else "01:00:00:00", self.rate)

    def length(self, clip: Clip) -> int:
        """Return how many frames of the timeline a clip takes: no more than its video has left."""
        left = int((clip.media.frames - clip.first) * self.rate / clip.media.rate)
        return max(1, min(left, self.frames(clip.end, clip.media) - self.frames(clip.first, clip.media)))

    def frames(self, frame: int, media: Media) -> int:
        """Return a number of frames of a video in frames of the timeline."""
        return round(frame * self.rate / media.rate)


def cut_of(marks: Sequence[Mark], media: Mapping[str, Media]) -> Cut:
    """Lay moments out on a timeline."""
    texts = list(dict.fromkeys(m.text for m in marks))
    colors = {text: COLORS[i % len(COLORS)] for i, text in enumerate(texts)}
    clips = []
    if any(m.query for m in marks):
        for mark in marks:
            first, end = media[mark.path].span(mark)
            point = Marker(first, first, mark, colors[mark.text])
            clips.append(Clip(media[mark.path], first, end, mark.text, [point]))
    else:
        for path, moments in by_video(marks).items():
            spans = [media[path].span(m) for m in moments]
            firsts = nudged(first for first, _ in spans)
            markers = [
                Marker(first, max(end, first + 1), mark, colors[mark.text])
                for first, (_, end), mark in zip(firsts, spans, moments, strict=True)
            ]
            clips.append(Clip(media[path], 0, media[path].frames, Path(path).name, markers))
    rates = Counter(clip.media.rate for clip in clips)
    title = texts[0] if len(texts) == 1 else "stop"
    return Cut(title[:TITLE], _standard(rates.most_common(1)[0][0]), clips)


def _standard(rate: Fraction) -> Fraction:
    """Return the rate of a timeline for a video's: editors and timecode know none above 60."""
    while rate > 61:
        rate /= 2
    whole = rate.denominator == 1  # then, of two that are about as near, a whole one
    known = (r for r in RATES if r <= 60)
    return min(known, key=lambda r: (round(abs(r - rate)), (r.denominator == 1) != whole, abs(r - rate)))


def edl(cut: Cut) -> str:
    """Return an edit decision list with a locator for each marker."""
    lines = [f"TITLE: {_plain(cut.title)}", f"FCM: {'' if drops(cut.rate) else 'NON-'}DROP FRAME", ""]
    at = cut.start
    for number, clip in enumerate(cut.clips, 1):
        length = cut.length(clip)
        own = clip.media.facts.timecode  # a camera may count every frame where the timeline drops numbers
        drop = drops(cut.rate) and (own is None or own[8] != ":")
        source = _begin(cut, clip.media, drop=drop) + cut.frames(clip.first, clip.media)
        times = [timecode(f, cut.rate, drop=drop) for f in (source, source + length)]
        times += [timecode(f, cut.rate) for f in (at, at + length)]
        channels = "AA/V" if clip.media.facts.sound else "V"
        lines.append(f"{number:03d}  AX       {channels:5} C        {' '.join(times)}")
        lines.append(f"* FROM CLIP NAME: {_plain(Path(clip.media.path).name)}")
        lines.append(f"* SOURCE FILE: {_plain(os.path.abspath(clip.media.path))}")  # noqa: PTH100
        begin = cut.frames(clip.first, clip.media)
        for marker in clip.markers:
            place = timecode(at + cut.frames(marker.first, clip.media) - begin, cut.rate)
            lines.append(f"* LOC: {place} {marker.color:7} {_plain(marker.mark.text)}")
        lines.append("")
        at += length
    return "\n".join(lines)


def _begin(cut: Cut, media: Media, *, drop: bool) -> int:
    """Return the number of a video's first frame: its camera's hours to seconds, at the timeline's rate."""
    own = media.facts.timecode
    if own is None:
        return 0
    return frame_number(f"{own[:8]}{';' if drop else ':'}00", cut.rate) + cut.frames(int(own[9:]), media)


def _plain(text: str) -> str:
    return printable(" ".join(text.split()))


def fcpxml(cut: Cut) -> str:
    """Return a project for Final Cut Pro, and for Resolve; all times are whole frames as fractions."""
    root = ElementTree.Element("fcpxml", version="1.9")
    resources = ElementTree.SubElement(root, "resources")
    formats: dict[tuple[Fraction, int, int, Fraction], str] = {}
    assets: dict[str, str] = {}
    for clip in cut.clips:
        facts, rate = clip.media.facts, clip.media.rate
        key = (rate, *_shape(facts))
        if key not in formats:
            formats[key] = f"r{len(formats) + len(assets) + 1}"
            ElementTree.SubElement(resources, "format", _format(formats[key], *key))
        if clip.media.path not in assets:
            assets[clip.media.path] = f"r{len(formats) + len(assets) + 1}"
            whole = {"start": _seconds(clip.media.first, rate), "duration": _seconds(clip.media.frames, rate)}
            what = {
                "id": assets[clip.media.path],
                "name": _name(clip),
                "format": formats[key],
                "hasVideo": "1",
            }
            sound = {"hasAudio": "1", "audioSources": "1"} if facts.sound else {}
            asset = ElementTree.SubElement(resources, "asset", {**what, **whole, **sound})
            source = {"kind": "original-media", "src": address(clip.media.path)}
            ElementTree.SubElement(asset, "media-rep", source)
    event = ElementTree.SubElement(ElementTree.SubElement(root, "library"), "event", name="stop")
    project = ElementTree.SubElement(event, "project", name=xml_text(cut.title))
    largest = max((k for k in formats), key=lambda k: (k[0] == cut.rate, k[1] * k[2]))
    main = (cut.rate, *largest[1:])
    if main not in formats:
        formats[main] = f"r{len(formats) + len(assets) + 1}"
        ElementTree.SubElement(resources, "format", _format(formats[main], *main))
    counted = {"tcStart": _seconds(cut.start, cut.rate), "tcFormat": "DF" if drops(cut.rate) else "NDF"}
    length = _seconds(sum(cut.length(c) for c in cut.clips), cut.rate)
    sequence = ElementTree.SubElement(
        project, "sequence", {"format": formats[main], "duration": length, **counted}
    )
    spine = ElementTree.SubElement(sequence, "spine")
    at = cut.start
    for clip in cut.clips:
        rate, first = clip.media.rate, clip.media.first
        times = {
            "offset": _seconds(at, cut.rate),
            "start": _seconds(first + clip.first, rate),
            "duration": _seconds(cut.length(clip), cut.rate),
        }
        what = {"ref": assets[clip.media.path], "name": xml_text(clip.name)}
        element = ElementTree.SubElement(spine, "asset-clip", {**what, **times})
        for m in clip.markers:
            place = {
                "start": _seconds(first + m.first, rate),
                "duration": _seconds(max(1, m.end - m.first), rate),
            }
            text = {"value": xml_text(m.mark.text), "note": m.mark.remark}
            ElementTree.SubElement(element, "marker", {**place, **text})
        at += cut.length(clip)
    return as_xml(root, "<!DOCTYPE fcpxml>\n")


def _shape(facts: Facts) -> tuple[int, int, Fraction]:
    """Return the width and height of pictures as they are shown, and the shape of their pixels."""
    aspect = Fraction(facts.aspect).limit_denominator(100)
    aspect = aspect if abs(aspect - 1) > Fraction(1, 100) else Fraction(1)
    if facts.turned:
        return facts.height, facts.width, 1 / aspect
    return facts.width, facts.height, aspect


def _format(name: str, rate: Fraction, width: int, height: int, aspect: Fraction) -> dict[str, str]:
    size = {"width": str(width), "height": str(height)}
    pixel = {"paspH": str(aspect.numerator), "paspV": str(aspect.denominator)} if aspect != 1 else {}
    return {"id": name, "frameDuration": _seconds(1, rate), **size, **pixel}


def _name(clip: Clip) -> str:
    return xml_text(Path(clip.media.path).name)


def _seconds(frames: int, rate: Fraction) -> str:
    time = frames / rate
    return f"{time.numerator}/{time.denominator}s" if time.denominator > 1 else f"{time.numerator}s"


def is_counted(rate: Fraction) -> bool:
    """Say whether SMPTE timecode knows a rate: Final Cut Pro 7's XML has no other."""
    from opentimelineio.opentime import RationalTime

    counted: bool = RationalTime.is_smpte_timecode_rate(float(rate))
    return counted


def timeline(cut: Cut, *, xml: bool = False) -> Any:
    """Return an OpenTimelineIO timeline; needs ``stopcli[editors]``.

    In Final Cut Pro 7's ``xml``, markers count from the media's first frame, and drop-frame is declared.
    """
    from opentimelineio import opentime, schema

    def span(first: int, end: int, rate: Fraction) -> Any:
        start, length = (opentime.RationalTime(n, float(rate)) for n in (first, end - first))
        return opentime.TimeRange(start, length)

    # some characters are none of XML's, and some no text
    plain = xml_text if xml else partial(printable, keep="\t\n")
    counted = {"fcp_xml": {"timecode": {"displayformat": "DF"}}} if xml else {}
    made = schema.Timeline(
        plain(cut.title), global_start_time=opentime.RationalTime(cut.start, float(cut.rate))
    )
    made.metadata.update(counted if drops(cut.rate) else {})
    track = schema.Track("V1", kind=schema.TrackKind.Video)
    sound = schema.Track("A1", kind=schema.TrackKind.Audio)
    made.tracks.append(track)
    if any(clip.media.facts.sound for clip in cut.clips):
        made.tracks.append(sound)
    for clip in cut.clips:
        media, first = clip.media, clip.media.first
        available = span(first, first + media.frames, media.rate)
        source = schema.ExternalReference(address(media.path), available)
        source.name = plain(Path(media.path).name)
        own = media.facts.timecode
        source.metadata.update(counted if own and own[8] != ":" and drops(media.rate) else {})
        shown = span(first + clip.first, first + clip.end, media.rate)
        silent = schema.Gap(source_range=shown)
        sound.append(schema.Clip(plain(clip.name), source.clone(), shown) if media.facts.sound else silent)
        item = schema.Clip(plain(clip.name), source, shown)
        for m in clip.markers:
            facts = {
                "label": plain(m.mark.text),
                "score": m.mark.score,
                "start": m.mark.start,
                "end": m.mark.end,
            }
            zero = 0 if xml else first
            marker = schema.Marker(
                plain(m.mark.text), span(zero + m.first, zero + m.end, media.rate), m.color
            )
            marker.metadata["stopcli"] = facts
            item.markers.append(marker)
        track.append(item)
    return made
