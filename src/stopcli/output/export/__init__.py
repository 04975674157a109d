"""Moments in other programs' files: the suffix says which."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import count, pairwise
from pathlib import Path

from stopcli.data.paths import real_path
from stopcli.errors import InputError, UsageError
from stopcli.fileio import check_output, exists, replacing, short_name, write_text
from stopcli.output.export import annotators, editors, subtitles
from stopcli.output.export.marks import Mark, Media, by_video, marks_of
from stopcli.results import Failure, Written
from stopcli.video.cut.chapters import CHAPTERED
from stopcli.video.discovery import shared_names, telling_name
from stopcli.video.workers.pool import read_facts, write_chapters

OTIO = {".otio": "opentimelineio", ".xml": "otio_fcp_adapter"}  # what ``stopcli[editors]`` brings
CUTS: dict[str, Callable[[editors.Cut], str]] = {".edl": editors.edl, ".fcpxml": editors.fcpxml}
TABLES = {".csv": annotators.table, ".boris": annotators.boris, ".json": annotators.label_studio}
SUBTITLES = {".srt": subtitles.srt, ".vtt": subtitles.vtt}
SUFFIXES = (*OTIO, *CUTS, *SUBTITLES, ".eaf", *TABLES, *CHAPTERED)
LONGEST = 140  # bytes of a file's name: encrypted folders take 143
EACH = (*SUBTITLES, ".eaf", *CHAPTERED)  # such a file is of one video


def check_export(path: Path, *, force: bool, videos: Collection[str | Path] = (), each: bool = False) -> None:
    """Make sure before any work is done that moments of videos can be written so: ``each`` has some.

    Raises UsageError: a video itself would be replaced; otherwise as `check_output` does.
    """
    check_output(path, force=force, option="--export", suffixes=SUFFIXES)
    targets = names_of(path, videos, videos).values() if each else [path]
    for target in targets:
        check_output(target, force=force, option="--export")
    _require_none_of([path, *targets], videos)
    lacking = OTIO.get(path.suffix.lower())
    if lacking is not None and find_spec(lacking) is None:
        way = "install 'stopcli[editors]', or choose .edl or .fcpxml"
        raise UsageError(f"--export {path}: {path.suffix} needs {lacking}; {way}")


def export(
    path: Path,
    records: Iterable[object],
    *,
    force: bool = False,
    moves: bool = False,
    videos: Collection[str | Path] = (),
) -> Iterator[Written | Failure]:
    """Write the moments of hits or of classified windows; yield what was written, and videos that failed.

    A format of one video gets a file for each where there are several: ``hits_match.srt``. Videos are named
    from the file's own folder; where it ``moves`` to another place, in full. None of the ``videos`` that were
    looked at is replaced.

    Raises:
        UsageError: there are no moments, only whole files. FileExists, CannotWrite.
    """
    marks = marks_of(records)
    if not marks:
        raise UsageError(f"--export {path}: no moments; whole files have none, so use windows")
    media: dict[str, Media] = {}
    for video in by_video(marks):
        try:
            media[video] = Media(video, read_facts(video, look=path.suffix.lower() == ".fcpxml"))
        except InputError as error:
            yield Failure.of(video, error)
            continue
        if path.suffix.lower() == ".xml" and not editors.is_counted(media[video].rate):
            problem = f"{float(media.pop(video).rate):.6g} frames a second are no rate of {path.suffix}"
            yield Failure.of(video, InputError(f"{video}: {problem}; .otio, .fcpxml and .edl take it"))
    marks = [m for m in marks if m.path in media]
    targets = names_of(path, list(media), [*videos, *media])
    _require_none_of(targets.values(), [*videos, *media])
    if path.suffix.lower() not in EACH or len(media) == 1:
        yield from _written(path, marks, media, moves, fresh=not force)
        return
    for video, moments in by_video(marks).items():
        one = targets[video]
        try:
            check_output(one, force=force, option="--export")
            for item in _written(one, moments, {video: media[video]}, moves, fresh=not force):
                yield replace(item, description=f"{item.description} of {video}")
        except InputError as error:
            yield Failure.of(video, error)


def names_of(path: Path, videos: Iterable[str | Path], all_videos: Iterable[str | Path]) -> dict[str, Path]:
    """Return the file for each video, where several get one of their own; else the one for all of them."""
    ordered = sorted(set(map(str, videos)))
    if path.suffix.lower() not in EACH or len(ordered) < 2:
        return dict.fromkeys(ordered, path)
    shared = shared_names(dict.fromkeys(map(str, all_videos)))
    room = LONGEST - len(os.fsencode(f"{path.stem}_-99{path.suffix}"))
    taken: set[str] = set()
    found = {}
    for video in ordered:
        name = f"{path.stem}_{short_name(telling_name(Path(video), shared), room)}"
        names = (name if n == 1 else f"{name}-{n}" for n in count(1))
        free = next(n for n in names if n.casefold() not in taken)
        taken.add(free.casefold())
        found[video] = path.with_name(f"{free}{path.suffix}")
    return found


def _require_none_of(targets: Iterable[Path], videos: Iterable[str | Path]) -> None:
    """Raise UsageError if a file that would be replaced is one of the videos."""
    there = [target for target in targets if exists(target)]
    real = {real_path(Path(video)) for video in videos} if there else set()
    for target in there:
        if real_path(target) in real:
            way = "and would be lost; choose another name"
            raise UsageError(f"--export {target}: is one of the videos, {way}")


def _written(
    path: Path, marks: Sequence[Mark], media: dict[str, Media], moves: bool, *, fresh: bool
) -> Iterator[Written]:
    if not marks:
        return
    left_out: list[str] = []
    if path.suffix.lower() in CHAPTERED:
        left_out = _write_chapters(path, marks, fresh=fresh)
    elif path.suffix.lower() in OTIO:
        from opentimelineio import adapters

        kind = "fcp_xml" if path.suffix.lower() == ".xml" else "otio_json"
        try:
            made = editors.timeline(editors.cut_of(marks, media), xml=kind == "fcp_xml")
            text = adapters.write_to_string(made, kind)  # to a file, it would not say that a disk is full
            write_text(path, text, fresh=fresh)
        except ValueError as error:  # of frame rates that the format does not know
            problem = f"{path.suffix} cannot hold these videos ({error})"
            raise UsageError(f"--export {path}: {problem}; .otio and .fcpxml can") from error
    else:
        write_text(path, _text(path, marks, media, moves), fresh=fresh)
    what = f"{len(marks)} moments" if len(marks) > 1 else "1 moment"
    what += f" of {len(media)} videos" if len(media) > 1 else ""
    yield Written(str(path), what + (f"; left out: {', '.join(left_out)}" if left_out else ""))


def _text(path: Path, marks: Sequence[Mark], media: dict[str, Media], moves: bool) -> str:
    """Return the whole of a file that is text."""
    if path.suffix.lower() in CUTS:
        return CUTS[path.suffix.lower()](editors.cut_of(marks, media))
    names = {video: _whole(video) if moves else _from(path, video) for video in media}
    moments = by_video(marks)
    if path.suffix.lower() in TABLES:
        return TABLES[path.suffix.lower()](moments, media, names)
    ((video, ordered),) = moments.items()
    if path.suffix.lower() == ".eaf":
        return annotators.elan(ordered, media[video], names[video])
    return SUBTITLES[path.suffix.lower()](ordered, Path(names[video]))


def _from(path: Path, video: str) -> str:
    """Return how a file beside or above a video names it: from its own folder, with slashes."""
    try:
        folder = os.path.realpath(path.parent)  # where the file really is, if a link leads there
        place = os.path.join(os.path.realpath(Path(video).parent), Path(video).name)  # noqa: PTH118
        return Path(os.path.relpath(place, folder)).as_posix()
    except ValueError:  # another drive
        return _whole(video)


def _whole(video: str) -> str:
    return Path(os.path.abspath(video)).as_posix()  # noqa: PTH100 - resolve() would follow links


def _write_chapters(path: Path, marks: Sequence[Mark], *, fresh: bool) -> list[str]:
    """Copy the video of the marks with chapters: where several moments overlap, one has all their names."""
    bounds = sorted({time for m in marks for time in (m.start, m.end)})
    chapters: list[tuple[float, float, str]] = []
    for start, end in pairwise(bounds):
        names = dict.fromkeys(m.text for m in marks if m.start < end and m.end > start)
        title = " / ".join(names)
        if chapters and chapters[-1][1:] == (start, title) and not any(m.start == start for m in marks):
            chapters[-1] = (chapters[-1][0], end, title)
        elif names:
            chapters.append((start, end, title))
    if path.exists() and path.samefile(marks[0].path):
        raise UsageError(f"--export {path}: is the video itself; choose another name")
    with replacing(path, fresh=fresh) as part:
        return write_chapters(marks[0].path, part, chapters)
