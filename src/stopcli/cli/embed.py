"""``stop embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from stopcli.cli import options as o
from stopcli.cli.session import session
from stopcli.errors import UsageError

EXAMPLES = """Examples:
  stop embed footage/ -o footage.npz
  stop embed footage/ -o moments.parquet --window 8
  stop embed --text "a dog running" --text "a dog asleep" -o texts.npz"""


_text = o.input_option(metavar="TEXT", help="Embed texts instead; may be given again.")
_output = o.output_option("--output", "-o", metavar="OUT", help="A .npz, .npy with .jsonl, or .parquet.")
_force = o.output_option("--force", help="Start over instead of adding to OUT.")


@o.shares(o.Focused, o.Batching, o.Show)
def command(
    *,
    paths: o.Paths = None,
    text: Annotated[list[str] | None, _text] = None,
    window: o.Window = None,
    files_from: o.FilesFrom = None,
    compute: o.Focused,
    batching: o.Batching,
    output: Annotated[Path, _output],
    force: Annotated[bool, _force] = False,
    show: o.Show,
) -> None:
    """Write the vectors of videos or texts to a file.

    The file is for your own programs. What it holds already is skipped, so an interrupted run resumes.
    """
    with session("embed", show, compute, batching, kept="what is done is kept; run it again to go on") as s:
        from stopcli.results import Failure
        from stopcli.tasks.vectorfile import check_vector_file

        if text and (paths or files_from):
            raise UsageError("--text and videos: give one of them; their vectors belong in two files")
        check_vector_file(output)
        videos = s.videos(paths, files_from) if not text else []
        from stopcli.tasks.embed import embed_texts, embed_videos

        if text:
            rows, failures = embed_texts(s.encoder, text, output, force=force), list[Failure]()
        else:
            with s.progress("embedding", len(videos)) as done:
                rows, failures = embed_videos(
                    s.encoder, videos, output, window=window, force=force, progress=done
                )
        s.output.add_all([*rows, *failures])
        if rows:
            s.say(f"{output}: {len(rows)} vectors")
