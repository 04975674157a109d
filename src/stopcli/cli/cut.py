"""``stop cut``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.session import session
from stopcli.errors import UsageError

EXAMPLES = """Examples:
  stop cut match.mkv 1:23 1:31.5
  stop cut holiday.mp4 0 12 -o opening.mp4 --exact"""

SHORT = 0.1  # seconds: no frame is missing yet

_video = typer.Argument(metavar="VIDEO", help="One video.")
_start = typer.Argument(
    metavar="START", parser=o.seconds, help="Where the moment begins: seconds, or 1:23.5."
)
_end = typer.Argument(metavar="END", parser=o.seconds, help="Where it ends.")
_output = o.output_option(
    "--output", "-o", metavar="FILE", help="What to write; default: named after the video, in this folder."
)


@o.shares(o.Cutting, o.Show)
def command(
    *,
    video: Annotated[Path, _video],
    start: Annotated[float, _start],
    end: Annotated[float, _end],
    output: Annotated[Path | None, _output] = None,
    cutting: o.Cutting,
    force: o.Force = False,
    show: o.Show,
) -> None:
    """Save a moment of a video as a file of its own.

    All streams are copied, not encoded again, where the format allows; notes say what is not. The copy begins
    with the key frame before START; MP4 and MOV files are shown from START on.
    """
    with session("cut", show) as s:
        from stopcli.tasks.clips import clip_name, notes_on, save_clip
        from stopcli.video.discovery import as_spelled

        if end < start or (end == start and not cutting.pad):
            raise UsageError(f"a clip must end after it starts, got {start:g} to {end:g} s")
        video = as_spelled(video)
        since = max(0.0, start - cutting.pad)
        until = end + cutting.pad
        s.videos([video])
        target = output or Path(clip_name(video, since, until))
        clip = save_clip(video, since, until, target, exact=cutting.exact, force=force)
        s.output.add(clip)
        if (last := clip.start + clip.duration) < end - SHORT:
            s.say(f"note: {video} ends at {last:.2f} s, and so does the clip")
        for note in notes_on([clip], exact=cutting.exact):
            s.say(note)
