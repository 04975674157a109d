"""``stop index``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from stopcli.cli import options as o
from stopcli.cli.files import Files
from stopcli.cli.progress import Bar
from stopcli.cli.retrieve import Index, PerFile, SaveClips, saved
from stopcli.cli.session import Session, session
from stopcli.errors import FileMissing, UsageError

if TYPE_CHECKING:
    from stopcli.index.engine import SearchEngine
    from stopcli.index.store import Index as OpenIndex
    from stopcli.runtime.encoder import Encoder
    from stopcli.settings import Precision

EXAMPLES = "Examples:\n  stop index update videos/\n  stop index ls videos/ --format csv\n  stop index info"
app = typer.Typer(help="Manage the index that retrieve searches.", no_args_is_help=True)


_dry_run = typer.Option("--dry-run", help="Show what would be done, and do nothing.")
UPDATE = """Examples:
  stop index update videos/
  stop index update videos/ --dry-run -m vit-l-14
  stop index update videos/ --shard 1/8   # then stop index merge"""


@app.command("update", epilog=UPDATE)
@o.shares(o.Focused, o.Batching, o.Cluster, o.Show)
def update(
    *,
    paths: o.Paths = None,
    window: o.SearchWindow = 8.0,
    cuts: o.Cuts = "auto",
    whole: o.Whole = False,
    files_from: o.FilesFrom = None,
    shard: o.ShardName = None,
    compute: o.Focused,
    batching: o.Batching,
    cluster: o.Cluster,
    index: Index = None,
    dry_run: Annotated[bool, _dry_run] = False,
    show: o.Show,
) -> None:
    """Embed what is new or changed, and remove what is gone."""
    with session("index update", show, compute, batching, kept="what is indexed is kept") as s:
        from stopcli.results import IndexChange, Written

        videos = s.videos(paths, files_from)
        span = None if whole else window
        if shard and (cluster.engine != "local" or dry_run):
            other = "--dry-run" if dry_run else "--engine ray"
            raise UsageError(f"--shard and {other} do not go together; leave one of them out")
        if shard:
            _update_part(s, index, cuts, videos, s.roots(paths), span, shard)
            return
        with _loading(s, cluster) as load, s.engine(index, cuts, load) as engine:
            if dry_run:
                plan = engine.plan(videos, s.roots(paths), span)
                moved, gone = len(plan.diff.moved), len(plan.diff.gone)
                s.say(f"{len(plan.todo)} to embed, {moved} moved, {gone - moved} removed")
                s.output.add_all(Written(path, "would be embedded") for path in plan.todo)
                s.output.add_all(plan.diff.failures)
                return
            result = engine.update(videos, s.roots(paths), span)
            folder, moved = str(engine.index.folder), len(result.diff.moved)
        removed = len(result.diff.gone) - moved
        if result.embedded or moved or removed or not result.failures:
            s.output.add(IndexChange(folder, embedded=result.embedded, moved=moved, removed=removed))
        s.output.add_all(result.failures)


_known = typer.Argument(metavar="FILE|DIR...", help="Files of the index, or folders of them.")
Known = Annotated[list[Path] | None, _known]


@app.command("ls", epilog="Examples:\n  stop index ls\n  stop index ls videos/ --format csv")
@o.shares(o.Show)
def ls(show: o.Show, paths: Known = None, index: Index = None) -> None:
    """List the files of the index, and how many vectors each has."""
    with session("index ls", show) as s, s.index(index) as opened:
        from stopcli.index.maintenance import listing

        _check_known(opened, paths)
        s.output.add_all(listing(opened, paths or []))


_one_space = typer.Option(metavar="N", min=1, help="Remove one model's vectors; 'stop index info' lists N.")
RM = """Examples:
  stop index rm videos/old/
  stop index rm --space 2   # the vectors of a model that is no longer used
  stop index rm --all"""


@app.command("rm", epilog=RM)
@o.shares(o.Show)
def rm(
    show: o.Show,
    paths: Known = None,
    space: Annotated[int | None, _one_space] = None,
    everything: Annotated[bool, typer.Option("--all", help="Empty the index.")] = False,
    index: Index = None,
) -> None:
    """Remove files or vectors from the index, never the videos."""
    with session("index rm", show) as s:
        from stopcli.index.maintenance import remove, remove_space
        from stopcli.results import IndexChange

        if bool(paths) + everything + (space is not None) != 1:
            raise UsageError("name files or folders, or give --space or --all")
        with s.index(index) as opened:
            if space is not None:
                s.output.add(IndexChange(str(opened.folder), freed=remove_space(opened, space)))
                return
            _check_known(opened, paths)
            removed = remove(opened, None if everything else paths or [])
            s.output.add(IndexChange(str(opened.folder), removed=removed))


_others = typer.Argument(metavar="DIR", help="Other indexes, or the parts of a run.")
_move = typer.Option("--move", help="Remove the parts of a run as they are taken over.")
MERGE = "Examples:\n  stop index merge /mnt/laptop/index\n  stop index merge my/shards --move --index my/"


@app.command("merge", epilog=MERGE)
@o.shares(o.Show)
def merge(
    show: o.Show,
    others: Annotated[list[Path], _others],
    move: Annotated[bool, _move] = False,
    index: Index = None,
) -> None:
    """Take over the files and vectors of other indexes.

    The parts that --shard makes are joined in their order.
    """
    with session("index merge", show) as s, s.index(index, create=True) as opened:
        from stopcli.data.runs import MANIFEST
        from stopcli.index.maintenance import merge as take_over
        from stopcli.index.store import DATABASE
        from stopcli.results import IndexChange

        for other in others:
            if other.resolve() == opened.folder.resolve():
                raise UsageError(f"{other}: is this very index")
            if (other / MANIFEST).exists():
                _join(s, opened, other, move=move)
                continue
            if not (other / DATABASE).exists():
                why = "are the parts merged already, or has no process started?"
                raise FileMissing(f"{other}: holds neither an index nor the parts of a run; {why}")
            if move:
                raise UsageError(f"{other}: is a whole index; --move is for the parts of a run")
            with s.index(other) as source:
                files, vectors = take_over(opened, source)
            s.output.add(IndexChange(str(opened.folder), added=files, vectors=vectors))


@contextmanager
def _loading(s: Session, cluster: o.Cluster) -> Iterator[Callable[[], Encoder] | None]:
    """Yield what has the clips embedded elsewhere, if they are to be."""
    if cluster.engine == "local":
        if cluster.ray_address or cluster.ray_actors:
            raise UsageError("--ray-address and --ray-actors are for --engine ray")
        yield None
        return
    from stopcli.index.scale import ray_encoder as r

    with r.cluster(cluster.ray_address):  # an update asks no more of an encoder than this one does
        yield lambda: cast("Encoder", r.RayEncoder(s.files, s.options, cluster.ray_actors))


def _update_part(
    s: Session,
    index: Path | None,
    cuts: str,
    videos: list[Path],
    roots: list[Path],
    window: float | None,
    shard: str,
) -> None:
    """Embed one process's share of what the index lacks."""
    from stopcli.data.runs import Shard
    from stopcli.index.scale.shards import Wanted, update_part
    from stopcli.index.store import default_folder
    from stopcli.results import IndexChange

    def later(count: int) -> None:
        what = f"note: {count} file{'s' if count > 1 else ''} came after the run was planned"
        s.say(f"{what}; update without --shard takes them")

    number, encoder = Shard.parse(shard), s.encoder
    # vectors that are there in another precision are not looked at
    s.compute = replace(s.compute, precision=cast("Precision", encoder.precision))

    def open_part(folder: Path, shots: bool) -> SearchEngine:
        return s.engine(folder, "on" if shots else "off")

    main = partial(s.engine, index, cuts)
    wanted = Wanted(videos, roots, window, cuts)
    part = update_part(index or default_folder(), main, encoder, number, wanted, open_part, later)
    s.output.add(IndexChange(str(part.folder), embedded=part.embedded))
    s.output.add_all(part.failures)
    where = "" if index is None else f" --index {shlex.quote(str(index))}"
    s.say(f"next: when all parts are done, stop index merge {shlex.quote(str(part.folder.parent))}{where}")


def _join(s: Session, opened: OpenIndex, folder: Path, *, move: bool) -> None:
    """Take over the parts of a run."""
    from stopcli.data.runs import read_run
    from stopcli.index.scale.shards import join
    from stopcli.results import IndexChange

    joined = join(opened, read_run(folder), move=move)
    s.output.add(IndexChange(str(opened.folder), added=joined.files, vectors=joined.vectors))
    s.output.add_all(joined.failures)


_to = o.output_option(help="What to write.")
_target = o.output_option("--output", "-o", metavar="OUT", help="A .parquet, .jsonl, or .lance folder.")
_space = o.input_option(metavar="N", min=1, help="Which vectors, where there are several kinds.")
EXPORT = """Examples:
  stop index export --to parquet -o moments.parquet
  stop index export --to lance -o moments.lance"""


@app.command("export", epilog=EXPORT)
@o.shares(o.Show)
def export(
    show: o.Show,
    to: Annotated[Literal["parquet", "lance", "qdrant-jsonl"], _to],
    output: Annotated[Path, _target],
    space: Annotated[int | None, _space] = None,
    index: Index = None,
    force: o.Force = False,
) -> None:
    """Write all moments and vectors for another store.

    Beyond ten million moments, a vector database serves better than this index.
    """
    with session("index export", show) as s, s.index(index) as opened:
        from stopcli.index.maintenance import choose_space
        from stopcli.index.scale.export import check_export
        from stopcli.index.scale.export import export as write
        from stopcli.results import Written

        check_export(output, to, force=force)
        chosen = choose_space(opened, space)
        with closing(Bar("writing", chosen.rows, quiet=show.quiet)) as bar:
            count = write(opened, chosen, output, to, bar.update)
        s.output.add(Written(str(output), f"{count:,} moments, vectors of {chosen.size} numbers"))


_repair = typer.Option("--repair", help="Forget what is lost or broken, so that 'update' embeds it again.")


@app.command("check", epilog="Examples:\n  stop index check\n  stop index check --repair")
@o.shares(o.Show)
def check(show: o.Show, repair: Annotated[bool, _repair] = False, index: Index = None) -> None:
    """Check the index for damage; --repair fixes it."""
    with session("index check", show) as s:
        from stopcli.index.maintenance import check as look
        from stopcli.results import Failure

        found = look(s.index_folder(index), repair=repair, say=s.say)
        s.output.add(found)
        if not repair:
            s.output.add_all(Failure(found.folder, "index-unusable", p) for p in found.problems)
        if found.problems:
            first = "" if repair else "stop index check --repair, then "
            s.say(f"next: {first}stop index update on your folders")


@app.command("compact", epilog="Examples:\n  stop index compact\n  stop index compact --index my-index/")
@o.shares(o.Show)
def compact(show: o.Show, index: Index = None) -> None:
    """Free the room of vectors whose files are gone."""
    with session("index compact", show) as s, s.index(index) as opened:
        from stopcli.index.maintenance import compact as free

        s.output.add(free(opened))


@app.command("info", epilog="Examples:\n  stop index info\n  stop index info --format json")
@o.shares(o.Show)
def info(show: o.Show, index: Index = None) -> None:
    """Show where the index is, and what it holds for which model."""
    with session("index info", show) as s, s.index(index) as opened:
        from stopcli.index.maintenance import describe

        s.output.add(describe(opened))


_dir = "Examples:\n  stop index highlights footage/\n  stop index highlights footage/ --html unusual.html"


@app.command("highlights", epilog=_dir)
@o.shares(o.Focused, o.Batching, o.Cutting, Files, o.Show)
def highlights(
    *,
    paths: o.Paths = None,
    window: o.SearchWindow = 8.0,
    cuts: o.Cuts = "auto",
    files_from: o.FilesFrom = None,
    compute: o.Focused,
    batching: o.Batching,
    index: Index = None,
    top_k: o.TopK = 10,
    per_file: PerFile = None,
    save_clips: SaveClips = None,
    cutting: o.Cutting,
    files: Files,
    show: o.Show,
) -> None:
    """Show the moments least like all others.

    The score is the distance from the most similar other moment: 1 less their cosine.
    """
    with session("index highlights", show, compute, batching, kept="what is indexed is kept") as s:
        from stopcli.index.types import Filters

        files.check(s, moments=True)
        videos = files.beside(s.videos(paths, files_from))
        with s.engine(index, cuts) as engine:
            filters = Filters(top_k, per_file=per_file)
            result = engine.highlights(videos, s.roots(paths), window, filters)
        shown = list(saved(s, result.hits, save_clips, cutting, files, videos))
        s.output.add_all([*shown, *result.failures])
        files.write(s, "hits_page", videos)


def _check_known(index: OpenIndex, paths: list[Path] | None) -> None:
    """Refuse a path that is neither in the index nor on the disk; raises FileMissing."""
    from stopcli.index.maintenance import files_of

    for path in paths or ():
        if not path.exists() and not files_of(index, [path]):
            raise FileMissing(f"{path}: neither in the index nor on the disk")
