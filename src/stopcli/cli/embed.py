"""``stop embed``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from stopcli.cli import options as o
from stopcli.cli.session import Session, session
from stopcli.errors import UsageError

if TYPE_CHECKING:
    from stopcli.results import Embedded, Failure

EXAMPLES = """Examples:
  stop embed footage/ -o footage.npz
  stop embed footage/ -o moments.parquet --window 8
  stop embed footage/ -o footage.npz --shard 1/8   # then without --shard
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
    shard: o.ShardName = None,
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
        from stopcli.tasks.vectorfile import check_vector_file

        if text and (paths or files_from):
            raise UsageError("--text and videos: give one of them; their vectors belong in two files")
        if shard and (text or force):
            raise UsageError(
                f"--shard is for videos, and goes on; leave out {'--text' if text else '--force'}"
            )
        check_vector_file(output, force=force)
        videos = s.videos(paths, files_from) if not text else []
        if shard:
            _embed_part(s, videos, output, shard, window)
            return
        rows, failures = _embedded(s, videos, text, output, window, force=force)
        s.output.add_all([*rows, *failures])
        if rows:
            s.say(f"{output}: holds {len(rows)} vectors of these {'texts' if text else 'videos'}")


def _embedded(
    s: Session, videos: list[Path], text: list[str] | None, output: Path, window: float | None, *, force: bool
) -> tuple[list[Embedded], list[Failure]]:
    from stopcli.tasks.embed import embed_texts, embed_videos

    if text:
        return embed_texts(s.encoder, text, output, force=force), []
    with s.progress("embedding", len(videos)) as done:
        return embed_videos(s.encoder, videos, output, window=window, force=force, progress=done)


def _embed_part(s: Session, videos: list[Path], output: Path, shard: str, window: float | None) -> None:
    """Embed one process's share of the videos."""
    from stopcli.data.runs import Shard
    from stopcli.tasks.embed import embed_part

    part, rows, failures = embed_part(
        s.encoder,
        videos,
        output,
        Shard.parse(shard),
        window=window,
        progress=lambda total: s.progress("embedding", total),
        later=lambda count: s.say(
            f"note: not part of this run, which was planned before: {count} of the files"
        ),
    )
    s.output.add_all([*rows, *failures])
    s.say(
        f"{part}: {len(rows)} vectors; when all parts are done, the same command without --shard joins them"
    )
