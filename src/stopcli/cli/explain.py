"""``stop explain``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.session import Session, session
from stopcli.errors import InputError, UsageError
from stopcli.fileio import exists, is_folder
from stopcli.results import Explanation

EXAMPLES = """Examples:
  stop explain clip.mp4 --model my-model -o clip.png
  stop explain clip.mp4 --model my-model --labels "a serve,a backhand" -o clip.html
  stop explain match.mkv --start 60 --end 68 --model my-model -o point.mp4"""

SUFFIXES = (".png", ".html", ".mp4")


_video = typer.Argument(metavar="VIDEO", help="One video.")
_output = o.output_option("--output", "-o", metavar="FILE", help="A .png, .html or .mp4 to write.")
_block = typer.Option(metavar="N", min=1, help="Which prompted block; default: the last but one.")
_compare = typer.Option("--compare", help="Show beside it what plain CLIP looks at.")
_start = o.input_option(metavar="SECONDS", parser=o.seconds, help="Where the clip begins.")
_end = o.input_option(metavar="SECONDS", parser=o.seconds, help="Where the clip ends.")


@o.shares(o.Focused, o.Show)
def command(
    *,
    video: Annotated[Path, _video],
    labels: o.Labels = None,
    template: o.Template = None,
    start: Annotated[float | None, _start] = None,
    end: Annotated[float | None, _end] = None,
    compute: o.Focused,
    output: Annotated[Path, _output],
    block: Annotated[int | None, _block] = None,
    compare: Annotated[bool, _compare] = False,
    force: o.Force = False,
    show: o.Show,
) -> None:
    """Draw what a model looks at in a video, and where its prompts go.

    The picture shows regions, region scores, and the prompts between the frames. --format json prints the
    numbers of every block.
    """
    with session("explain", show, compute) as s:
        from stopcli.data.labels import check_template, parse_labels
        from stopcli.fileio import check_output

        names = parse_labels(labels, s.say) if labels else []
        check_template(template)
        check_output(output, force=force, suffixes=SUFFIXES)
        s.videos([video])
        video = _checked(video, output)
        from stopcli.tasks.explain import check_stretch, explain

        check_stretch(start, end)
        s.require_prompts()
        explanation = explain(
            s.encoder,
            video,
            block=block,
            labels=names,
            template=template,
            start=start,
            end=end,
            compare=compare,
        )
        _write(s, explanation, output, fresh=not force)
        s.output.add(replace(explanation, written=str(output)))


def _checked(video: Path, output: Path) -> Path:
    """Return the video, as its name is spelled; raises UsageError or InputError."""
    from stopcli.video.discovery import as_spelled

    video = as_spelled(video)
    if exists(output) and output.samefile(video):
        raise UsageError(f"--output {output}: is the video itself; choose another name")
    if is_folder(video):
        raise InputError(f"{video}: is a folder; name one video")
    return video


def _write(s: Session, explanation: Explanation, output: Path, *, fresh: bool) -> None:
    from stopcli.fileio import replacing, write_text
    from stopcli.output.explanation import film, picture, unsure
    from stopcli.output.html import explanation_page

    kind = output.suffix.lower()
    if kind == ".mp4":
        film(explanation, output, fresh=fresh)
    elif kind == ".html":
        write_text(output, explanation_page(explanation, s.provenance), fresh=fresh)
    else:
        with replacing(output, fresh=fresh) as part:
            part.write_bytes(picture(explanation))
    if doubt := unsure(explanation):
        s.say(f"note: {doubt}; there, regions are where the class token looks")
