"""The clips that come with the package."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path

from stopcli.errors import UsageError
from stopcli.fileio import check_output, exists, is_folder, make_folder, replacing
from stopcli.results import Written


def copy_samples(folder: Path, *, force: bool = False) -> Iterator[Written]:
    """Copy the bundled clips into a folder, made if need be. Raises UsageError, FileExists."""
    if exists(folder) and not is_folder(folder):
        raise UsageError(f"{folder}: is a file; name a folder")
    source = Path(str(package_files("stopcli") / "assets" / "samples"))
    clips = sorted(source.glob("*.mp4"))
    make_folder(folder)
    for clip in clips:
        check_output(folder / clip.name, force=force, option="DIR")
    for clip in clips:
        with replacing(folder / clip.name) as part:
            shutil.copyfile(clip, part)
        yield Written(str(folder / clip.name))
