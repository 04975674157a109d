"""A video copied with chapters."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

from stopcli.errors import UnreadableVideo
from stopcli.video.container import Container, reason
from stopcli.video.cut.streams import CannotHold, add_stream, holds_covers, open_like
from stopcli.video.reader import check_file

CHAPTERED = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
UNIT = Fraction(1, 1000)  # seconds
FIRST = 500  # packets, among which each stream begins


def write_chapters(source: str, target: str, chapters: Sequence[tuple[float, float, str]]) -> list[str]:
    """Copy all that a video holds, with chapters (start, end, name) in seconds of the file's own clock.

    Ascending, none before the end of another; where nothing is named, players would show the one before,
    so that an empty chapter stands there. Raises InputError: one of its kinds.
    """
    import av
    from av.stream import Disposition

    check_file(Path(source))
    try:
        with closing(Container(source, 1)) as video:
            zero = Fraction(video.file.start_time or 0, 1_000_000)
            own = len(video.file.chapters())
            length = (video.file.duration or 0) / 1e6
            if "matroska" in video.file.format.name:  # it counts from 0, wherever the film begins
                length -= max(0.0, float(zero))
            named = _without_gaps(chapters, float(zero + _shift(source, target)), length)

            def add(output: Any, stream: Any) -> Any:
                if stream.disposition & Disposition.attached_pic and not holds_covers(target):
                    raise ValueError("a cover")
                try:
                    made = add_stream(output, stream)
                except (ValueError, av.FFmpegError) as error:
                    raise (CannotHold if stream.type in ("video", "audio") else ValueError) from error
                if "timecode" in stream.metadata:
                    made.metadata["timecode"] = stream.metadata["timecode"]
                return made

            def finish(output: Any, _: object) -> None:
                output.metadata.update(video.file.metadata)
                output.set_chapters(named)

            new = open_like(video.file, target, add, finish, encodes=False)
            with new.output as output:
                for packet in video.demux():
                    video.beat()
                    if packet.size and packet.stream_index in new.streams:
                        packet.stream = new.streams[packet.stream_index]
                        output.mux(packet)
    except (av.FFmpegError, ValueError, CannotHold) as error:
        cause = error.__cause__ if isinstance(error, CannotHold) else error
        why = reason(cause or error)
        raise UnreadableVideo(f"{source}: cannot be copied with chapters ({why})") from error
    return [*new.left_out, *([f"{own} chapters of its own"] if own else [])]


def _shift(source: str, target: str) -> Fraction:
    """Return by how much (seconds) a format without edit lists shows all later: what they hid comes first."""
    if Path(target).suffix.lower() not in (".mkv", ".webm"):
        return Fraction(0)
    begins: dict[int, Fraction] = {}
    with closing(Container(source, 1)) as video:
        for packet, _ in zip(video.demux(), range(FIRST), strict=False):
            if packet.pts is not None:
                begins.setdefault(packet.stream_index, Fraction(packet.pts * packet.time_base))
            if len(begins) == len(video.file.streams):
                break
    return max(Fraction(0), -min(begins.values(), default=Fraction(0)))


def _without_gaps(
    chapters: Sequence[tuple[float, float, str]], zero: float, length: float
) -> list[dict[str, Any]]:
    filled: list[tuple[float, float, str]] = []
    at = 0.0
    for start, end, name in [*chapters, (length, length, "")]:
        if start - at >= float(UNIT):
            filled.append((at, start, ""))
        if end > start:
            filled.append((start, end, name))
        at = max(at, end)
    return [
        {
            "id": i,
            "start": round((start + zero) / UNIT),
            "end": round((end + zero) / UNIT),
            "time_base": UNIT,
            "metadata": {"title": name},
        }
        for i, (start, end, name) in enumerate(filled, 1)
    ]
