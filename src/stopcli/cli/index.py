"""``stop index``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stopcli.cli import options as o
from stopcli.cli.progress import interruptible
from stopcli.errors import UsageError

EXAMPLES = """Examples:\n
  stop index update videos/\n
  stop index update videos/ --dry-run\n
  stop index ls videos/ --format csv\n
  stop index rm videos/old/\n
  stop index merge /mnt/laptop/index"""

app = typer.Typer(help="Keep the index that retrieve searches.", no_args_is_help=True, add_help_option=False)


@app.callback()
def _group(help: o.Help = False) -> None:
    """Keep the index that retrieve searches."""


Paths = Annotated[
    list[Path] | None, typer.Argument(metavar="VIDEO|DIR...", help="Files or folders.", allow_dash=True)
]


@app.command(
    "update",
    epilog="Examples:\n\n  stop index update videos/\n\n  stop index update videos/ --dry-run -m vit-l-14",
)
def update(
    paths: Paths = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    window: Annotated[float, typer.Option("--every", metavar="SECONDS", help="Length of the windows.")] = 8.0,
    whole: Annotated[bool, typer.Option("--whole", help="One vector a file.")] = False,
    index: o.IndexFolder = None,
    files_from: o.FilesFrom = None,
    model: o.Model = None,
    device: o.Device = "auto",
    precision: o.PrecisionOption = o.Precision.auto,
    batch_size: o.BatchSize = "auto",
    frames: o.FrameCount = None,
    compile: o.Compile = False,
    offline: o.Offline = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Embed what is new or changed, follow what moved, drop what is gone."""
    common = o.Common.check(
        model=model, device=device, precision=precision.value, batch_size=batch_size, frames=frames,
        compile=compile, offline=offline, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    o.check_window(window)
    span = None if whole else window
    with interruptible("what is indexed is kept"), common.output("index update") as out:
        from stopcli.index.sync import failures

        found = o.gather(paths, files_from)
        with o.archive(common, index) as archive:
            files, todo = archive.plan(found, o.roots(paths), span)
            moved = ", ".join(f"{a} -> {b}" for a, b in files.moved[:3]) + (
                "..." if len(files.moved) > 3 else ""
            )
            gone = len(files.gone) - len(files.moved)
            told = f"{len(found)} files: {len(todo)} to embed, {len(files.moved)} moved, {gone} gone"
            common.say(told + (f" ({moved})" if moved else ""))
            if dry_run:
                for path in todo:
                    typer.echo(files.shown[path])
                return
            files, space, count = archive.refresh(found, o.roots(paths), span)
            if space is not None:
                out.add_all(failures(archive.index, space, files))
            common.say(f"{count} embedded; the index is at {archive.index.folder}")
    raise typer.Exit(1 if out.exit_status else 0)


@app.command("ls", epilog="Examples:\n\n  stop index ls\n\n  stop index ls videos/ --format csv")
def ls(
    paths: Paths = None,
    index: o.IndexFolder = None,
    format: o.FormatOption = o.Format.auto,
    quiet: o.Quiet = False,
    null: o.Null = False,
) -> None:
    """List the files of the index, and how many vectors each has."""
    common = o.Common.check(
        model=None, batch_size="auto", frames=None, format=format.value, quiet=quiet, null=null
    )
    with interruptible(), common.output("index ls") as out, o.open_index(index) as held:
        from stopcli.index.engine import listing

        out.add_all(listing(held, paths or []))


@app.command("rm", epilog="Examples:\n\n  stop index rm videos/old/\n\n  stop index rm --all")
def rm(
    paths: Paths = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop the whole index.")] = False,
    index: o.IndexFolder = None,
) -> None:
    """Drop files from the index; the videos themselves are never touched."""
    if not paths and not everything:
        raise UsageError("name files or folders, or --all")
    with interruptible(), o.open_index(index) as held:
        from stopcli.index.engine import under

        with held.writing():
            gone = list(held.files()) if everything else under(held, paths or [])
            held.forget(gone)
            freed = held.compact() if everything else 0
        typer.echo(f"{len(gone)} files dropped" + (f", {freed / 1e6:.1f} MB freed" if everything else ""))


@app.command(
    "merge", epilog="Examples:\n\n  stop index merge /mnt/laptop/index\n\n  stop index merge a/ --index b/"
)
def merge(
    other: Annotated[Path, typer.Argument(metavar="DIR", help="Another index's folder.")],
    index: o.IndexFolder = None,
) -> None:
    """Take over the files and vectors of another index."""
    with interruptible(), o.open_index(index) as held:
        if not (other / "index.sqlite").is_file():
            raise UsageError(f"{other}: holds no index")
        if other.resolve() == held.folder.resolve():
            raise UsageError(f"{other}: is this very index")
        with o.open_index(other) as source, held.writing():
            files, rows = held.merge(source)
        typer.echo(f"{files} files and {rows} vectors came")


@app.command("compact", epilog="Examples:\n\n  stop index compact\n\n  stop index compact --index my-index/")
def compact(index: o.IndexFolder = None) -> None:
    """Drop the vectors of files that are gone, and give the room back."""
    with interruptible(), o.open_index(index) as held:
        with held.writing():
            freed = held.compact()
        typer.echo(f"{freed / 1e6:.1f} MB freed")


@app.command("info", epilog="Examples:\n\n  stop index info\n\n  stop index info --format json")
def info(index: o.IndexFolder = None, format: o.FormatOption = o.Format.auto) -> None:
    """Show where the index is, and what it holds for which model."""
    with interruptible(), o.open_index(index) as held:
        told: dict[str, Any] = held.describe()
    if format.value in ("json", "jsonl"):
        import json

        typer.echo(
            json.dumps({"schema": 1, "command": "index info", "status": "ok", "data": [told], "errors": []})
        )
        return
    from stopcli.output.sink import fact_table

    spaces = told.pop("spaces")
    facts = [(k, f"{v / 1e6:.1f} MB" if k == "bytes" else str(v)) for k, v in told.items()]
    for s in spaces:
        span = f"windows of {s['window']:g} s" if s["window"] else "whole files"
        facts.append(
            (
                s["model"],
                f"{s['rows']} vectors, {span}, {s['frames']} frames, {s['precision']}, {s['weights'][:12]}",
            )
        )
    fact_table(facts)
