"""A video copied with chapters."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

from stopcli.errors import UnreadableVideo
from stopcli.video.container import Container, lenient_tags, reason
from stopcli.video.cut.encoding import add_stream
from stopcli.video.cut.writing import is_timecode, muxer_of
from stopcli.video.reader import check_file

CHAPTERED = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
UNIT = Fraction(1, 1000)  # seconds


def write_chapters(source: str, target: str, chapters: Sequence[tuple[float, float, str]]) -> list[str]:
    """Copy all that a video holds, with chapters (start, end, name) in seconds of the file's own clock.

    Ascending, none before the end of another; where nothing is named, players would show the one before,
    so that an empty chapter stands there. Raises InputError: one of its kinds.
    """
    import av

    check_file(Path(source))
    try:
        with closing(Container(source, 1)) as video:
            zero = Fraction(video.file.start_time or 0, 1_000_000)
            options = {"format": muxer_of(target), **lenient_tags()}
            with av.open(f"file:{target}", "w", **options) as output:
                output.metadata.update(video.file.metadata)
                streams: dict[int, Any] = {}
                left_out: list[str] = []
                for stream in video.file.streams:
                    if is_timecode(stream):
                        continue
                    try:
                        streams[stream.index] = add_stream(output, stream)
                    except ValueError:
                        if stream.type in ("video", "audio"):
                            raise
                        left_out.append(f"{stream.type} stream {stream.index}")
                        continue
                    if "timecode" in stream.metadata:
                        streams[stream.index].metadata["timecode"] = stream.metadata["timecode"]
                output.set_chapters(_without_gaps(chapters, float(zero), (video.file.duration or 0) / 1e6))
                for packet in video.file.demux():
                    video.beat()
                    if packet.size and packet.stream_index in streams:
                        packet.stream = streams[packet.stream_index]
                        output.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableVideo(f"{source}: cannot be copied with chapters ({reason(error)})") from error
    return left_out


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
