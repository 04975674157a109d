"""``stop embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from stopcli.cli import options as o
from stopcli.cli.session import session
from stopcli.errors import ExitStatus, UsageError

EXAMPLES = """Examples:
  stop embed footage/ -o footage.npz
  stop embed footage/ -o moments.parquet --window 8
  stop embed --text "a dog running" --text "a dog asleep" -o texts.npz"""


@o.shares(o.Compute, o.Batching, o.Show)
def command(
    *,
    paths: o.Paths = None,
    text: Annotated[
        list[str] | None, o.input_option(metavar="TEXT", help="Embed texts instead; may be given again.")
    ] = None,
    window: o.Window = None,
    files_from: o.FilesFrom = None,
    compute: o.Compute,
    batching: o.Batching,
    output: Annotated[
        Path,
        o.output_option(
            "--output",
            "-o",
            metavar="OUT",
            help="A .npz, .npy (with .jsonl) or .parquet file, made or added to.",
        ),
    ],
    force: Annotated[bool, o.output_option("--force", help="Start over instead of adding to OUT.")] = False,
    show: o.Show,
) -> ExitStatus:
    """Write the vectors of videos or texts to a file, for your own programs.

    What OUT holds already is skipped, so an interrupted run resumes where it was.
    """
    with session(
        "embed", show, compute, batching, kept="finished files are kept; run it again to go on"
    ) as s:
        from stopcli.tasks.vectorfile import check_vector_file

        if text and (paths or files_from):
            raise UsageError("--text and videos: give one of them; their vectors belong in two files")
        check_vector_file(output)
        videos = s.videos(paths, files_from) if not text else []
        from stopcli.tasks.embed import embed_texts, embed_videos

        if text:
            rows = embed_texts(s.encoder, text, output, force=force)
            s.output.add_all(rows)
        else:
            with s.progress("embedding", len(videos)) as done:
                rows, failures = embed_videos(
                    s.encoder, videos, output, window=window, force=force, progress=done
                )
            s.output.add_all(rows)
            s.output.add_all(failures)
        if rows:
            s.say(f"{output}: {len(rows)} vectors")
    return s.exit_status
