"""Moments as files of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stopcli.errors import StopError, UsageError
from stopcli.fileio import check_output, exists, make_folder, replacing, short_name
from stopcli.results import Failure, Hit, SavedClip
from stopcli.video.cut.shots import SIGHT, cut_near
from stopcli.video.cut.streams import MUXERS, starts_in_time, suffix_of
from stopcli.video.discovery import shared_names, telling_name
from stopcli.video.workers.pool import read_frames, write_moment

SEEN, RATE = 0.4, 60  # seconds on both sides of a cut, and frames of each of them, that tell where it is


def save_clip(
    source: Path, start: float, end: float, target: Path, *, exact: bool = False, force: bool = False
) -> SavedClip:
    """Write the moment from ``start`` to ``end`` (seconds) into a file, whole or not at all.

    Raises:
        UsageError: no moment, or ``target`` is of a kind that cannot be written.
        FileExists, CannotWrite, InputError.
    """
    if end <= start:
        raise UsageError(f"a clip must end after it starts, got {start:g} and {end:g} s")
    if exists(target) and exists(source) and target.samefile(source):
        raise UsageError(f"{target}: is the video itself; choose another name")
    check_output(target, force=force, suffixes=tuple(MUXERS))
    with replacing(target, fresh=not force) as part:
        written = write_moment(source, part, start, end, exact=exact)
    w = written
    times = w.start, w.duration, w.lead
    return SavedClip(str(target), str(source), *times, w.mode, tuple(w.left_out), w.sound)


def save_hits(
    hits: Sequence[Hit],
    folder: Path,
    *,
    pad: float = 0.0,
    exact: bool = False,
    force: bool = False,
    videos: Iterable[str | Path] = (),
) -> Iterator[tuple[Hit | Failure, SavedClip | None]]:
    """Write the moment of each hit, ``pad`` seconds longer on both sides, into a folder; yield what became.

    Names tell the folder of a video where another one of the hits, or of the ``videos``, is called alike. A
    hit whose moment cannot be written is yielded all the same, after the failure.
    """
    make_folder(folder)
    shared = shared_names({str(video) for video in (*videos, *(hit.path for hit in hits))})
    for hit in hits:
        source, start, end = Path(hit.path), max(0.0, (hit.start or 0.0) - pad), (hit.end or 0.0) + pad
        target = folder / clip_name(source, start, end, f"{_slug(hit.query)}-{hit.rank:02d}_", shared)
        try:
            saved = save_clip(source, start, end, target, exact=exact, force=force)
        except StopError as error:
            yield Failure.of(hit.path, error), None
            yield hit, None
        else:
            yield replace(hit, clip=saved.path), saved


def at_cuts(hit: Hit) -> Hit:
    """Return a hit that begins and ends with its shots to the frame; an index looks a few times a second.

    What is no cut stays as it is, and so do files that cannot be read.
    """
    if hit.start is None or hit.end is None:
        return hit
    start, end = (_cut_at(hit.path, edge) for edge in (hit.start, hit.end))
    return replace(hit, start=start, end=end) if start < end else hit


def _cut_at(path: str, at: float) -> float:
    if at <= 0:
        return at
    try:
        frames = read_frames(path, round(2 * SEEN * RATE), SIGHT, start=max(0.0, at - SEEN), end=at + SEEN)
    except StopError:
        return at
    cut = cut_near(frames.times.tolist(), frames.pixels, at)
    return at if cut is None else cut


def clip_name(
    source: Path,
    start: float,
    end: float,
    before: str = "",
    shared: Mapping[tuple[str, ...], int] | None = None,
) -> str:
    """Return a name that tells what is in a clip: ``match_00.01.23.50-00.01.31.50.mp4``."""
    times = f"{_stamp(start)}-{_stamp(end)}"
    return f"{before}{short_name(telling_name(source, shared or {}))}_{times}{suffix_of(source)}"


def _stamp(seconds: float) -> str:
    whole, hundredths = divmod(round(100 * seconds), 100)
    return f"{whole // 3600:02d}.{whole // 60 % 60:02d}.{whole % 60:02d}.{hundredths:02d}"


def _slug(text: str) -> str:
    """Return a text as a part of a file's name."""
    return short_name(re.sub(r"[^\w]+", "-", text.lower()).strip("-_")) or "clip"


def notes_on(clips: Sequence[SavedClip], *, exact: bool = False) -> Iterator[str]:
    """Yield sentences on what clips hold besides their moments, and what they lack."""
    early = [c for c in clips if c.lead > 0]
    if early:
        longest = max(c.lead for c in early)
        if all(starts_in_time(Path(c.path)) for c in early):
            more = f"up to {longest:.1f} s before the moment stay in the file, hidden from players"
        else:
            more = f"clips begin up to {longest:.1f} s early, at a key frame"
        yield f"note: {more}; --exact leaves them out"
    for clip in clips:
        if clip.mode == "encoded" and not exact:
            yield f"note: the pictures of {clip.path} could not be copied; they were encoded again"
        if clip.sound:
            yield f"note: {clip.path} cannot hold its sound as it is; it was encoded again, as {clip.sound}"
        if clip.left_out:
            yield f"note: left out of {clip.path}: {', '.join(clip.left_out)}"
