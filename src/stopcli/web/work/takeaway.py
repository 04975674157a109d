"""Moments to take away: clips, timelines, tables."""

from __future__ import annotations

import secrets
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from stopcli.errors import FileMissing, InputError, UsageError
from stopcli.fileio import make_private_folder, replacing
from stopcli.output.export import check_export, export
from stopcli.results import Failure, Hit, printable
from stopcli.tasks.clips import at_cuts, save_hits
from stopcli.web.work.jobs import Job
from stopcli.web.work.question import Shown, split_id
from stopcli.web.work.workspace import Workspace

CLIPS = ".zip"
KINDS = {  # what they are for
    CLIPS: "clips (.zip)",
    ".edl": "EDL for Resolve, Premiere, Avid",
    ".fcpxml": "FCPXML for Final Cut",
    ".otio": "OpenTimelineIO",
    ".xml": "FCP 7 XML",
    ".csv": "CSV table",
    ".srt": "SRT subtitles",
    ".vtt": "WebVTT subtitles",
    ".eaf": "ELAN",
    ".boris": "BORIS",
    ".json": "Label Studio",
}
MOST = 2000  # moments


def hits_of(
    space: Workspace, moments: Sequence[str], name: str, shown: Mapping[str, Shown], job: Job
) -> tuple[list[Hit], list[Failure]]:
    """Return moments as hits, called by their labels, as ``shown``, or by ``name``, and what is gone.

    Those that nobody has labelled begin and end with their shots, to the frame.
    """
    hits: list[Hit] = []
    gone: list[Failure] = []
    for done, moment in enumerate(moments):
        job.report(done, len(moments), name)
        file, start, end = split_id(moment)
        try:
            path, label = space.footage.path_of(file), space.label_of(moment)
        except FileMissing as error:
            gone.append(Failure.of(moment, error))
        else:
            said = shown.get(moment, Shown())
            text, rank = label or said.name or name or "moment", len(hits) + 1
            hit = Hit(text, rank, str(path), start, end, said.score, said.confidence)
            hits.append(hit if label else at_cuts(hit))
    return hits, gone


def take(
    space: Workspace,
    moments: Sequence[str],
    kind: str,
    name: str,
    shown: Mapping[str, Shown],
    folder: Path,
    job: Job,
) -> dict[str, str]:
    """Write moments into one file in a folder, which is made; return its ``file`` and what is not in it.

    ``kind`` is a suffix: .zip holds the clips, the others are those of `stop retrieve --export`; where that
    makes a file for each video, they are put into a ZIP.

    Raises:
        UsageError: no such kind, or no moments. InputError: none of them can be read.
    """
    if kind not in KINDS:
        raise UsageError(f"moments can be taken away as {', '.join(KINDS)}; got {kind!r}")
    if not moments or len(moments) > MOST:
        raise UsageError(f"1 to {MOST} moments can be taken away at once; got {len(moments)}")
    hits, failures = hits_of(space, moments, name, shown, job)
    if not hits:
        raise InputError(failures[0].message)
    make_private_folder(folder)
    with TemporaryDirectory(dir=folder) as made:
        if kind == CLIPS:
            failures += _clips(hits, Path(made), job)
        else:
            check_export(Path(made) / f"moments{kind}", force=False)
            items = list(export(Path(made) / f"moments{kind}", hits, moves=True))
            failures += [item for item in items if isinstance(item, Failure)]
        files = sorted(Path(made).iterdir())
        if not files:
            raise InputError(failures[0].message if failures else "nothing could be written")
        lacking = {"lacking": f"{len(failures)} not written: {failures[0].message}"} if failures else {}
        if len(files) == 1 and kind != CLIPS:
            target = folder / f"{secrets.token_hex(8)}-moments{kind}"
            files[0].replace(target)
            return {"file": target.name, **lacking}
        return {
            "file": _packed(files, folder, "clips" if kind == CLIPS else f"moments-{kind[1:]}"),
            **lacking,
        }


def take_model(model: Path, folder: Path) -> dict[str, str]:
    """Pack a model's folder; return the ``file``."""
    make_private_folder(folder)
    files = sorted(f for f in model.rglob("*") if f.is_file() and not f.name.startswith("."))
    return {"file": _packed(files, folder, model.name, model.parent)}


def _packed(files: Sequence[Path], folder: Path, name: str, base: Path | None = None) -> str:
    target = folder / f"{secrets.token_hex(8)}-{name}.zip"
    with replacing(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for file in files:  # films do not get smaller
            archive.write(file, printable(file.name if base is None else str(file.relative_to(base))))
    return target.name


def _clips(hits: list[Hit], folder: Path, job: Job) -> list[Failure]:
    failures = []
    for done, (item, _) in enumerate(save_hits(hits, folder, exact=False)):
        job.report(done, len(hits), str(item.path))
        if isinstance(item, Failure):
            failures.append(item)
    return failures
