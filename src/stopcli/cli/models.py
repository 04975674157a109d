"""``stop models``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stopcli.cli import options as o
from stopcli.cli.progress import interruptible

if TYPE_CHECKING:
    from collections.abc import Iterable

EXAMPLES = """Examples:\n
  stop models list\n
  stop models info mini\n
  stop models pull hf:org/repo\n
  stop models push my-model/ me/my-model"""

app = typer.Typer(help="See, fetch and publish models.", no_args_is_help=True, add_help_option=False)


@app.callback()
def _group(help: o.Help = False) -> None:
    """See, fetch and publish models."""


Name = Annotated[str, typer.Argument(metavar="NAME|hf:ORG/REPO|PATH", help="A model.")]


@app.command("list", epilog="Examples:\n\n  stop models list\n\n  stop models list --format json")
def list_models(format: o.FormatOption = o.Format.auto, quiet: o.Quiet = False) -> None:
    """List the models that have a name, and whether their files are here."""
    from stopcli.hub.registry import ENTRIES, cached
    from stopcli.settings import default_model

    default = default_model()
    records = []
    for entry in ENTRIES.values():
        file = cached(entry)
        size = file.stat().st_size if file is not None else None
        records.append(
            {
                "name": entry.name, "here": file is not None, "size": size, "default": entry.name == default,
                "license": entry.license, "description": entry.description,
            }
        )  # fmt: skip
    if quiet:
        typer.echo("\n".join(str(r["name"]) for r in records))
        return
    _show("models list", records, format.value)


@app.command(
    "info",
    epilog="Examples:\n\n  stop models info mini\n\n  stop models info ./my-model --format json",
)
def info(name: Name, format: o.FormatOption = o.Format.auto, offline: o.Offline = False) -> None:
    """Show a model's files, size, settings, license and provenance.

    A model whose files are not here is fetched, unless --offline.
    """
    with interruptible():
        files = o.Common(name, offline=offline).files()
        _show("models info", [_told(files)], format.value)


@app.command("pull", epilog="Examples:\n\n  stop models pull vit-b-32\n\n  stop models pull hf:org/repo@v1")
def pull(name: Name) -> None:
    """Fetch a model's files, or newer ones, into the cache; from then on it works offline."""
    with interruptible("what has arrived is kept; run the same command to go on"):
        files = o.Common(name).files(refresh=True)
    typer.echo(str(files.folder or files.backbone))


@app.command(
    "push",
    epilog="Examples:\n\n  stop models push my-model/ me/my-model\n\n"
    "  stop models push my-model/ me/my-model --license apache-2.0 --public",
)
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder, as finetune makes it.")],
    repo: Annotated[str, typer.Argument(metavar="ORG/REPO", help="Where to; made if it is not there.")],
    license: Annotated[
        str | None, typer.Option("--license", metavar="SPDX", help="For the card, such as apache-2.0.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everyone see it; default: private.")] = False,
) -> None:
    """Send a model folder to the Hub: weights, settings, card and pictures; private unless --public."""
    from stopcli.hub.client import push as send
    from stopcli.hub.client import split_hub_name
    from stopcli.hub.publish import publishable

    with interruptible("nothing was published"):
        name, _ = split_hub_name(f"hf:{repo.removeprefix('hf:')}")
        files = publishable(folder, license)
        address = send(folder, files, name, private=not public, message=f"stopcli: {folder.resolve().name}")
    typer.echo(address)
    print(f"next, anywhere: stop classify --model hf:{name} VIDEO|DIR...", file=sys.stderr)


def _told(files: Any) -> dict[str, Any]:
    from stopcli.hub.registry import ENTRIES

    config = files.config
    entry = ENTRIES.get(files.name)
    parts = [files.backbone, *([files.prompts] if files.prompts else [])]
    return {
        "name": files.name,
        "description": entry.description if entry else config.extra.get("description"),
        "architecture": config.architecture,
        "backbone": str(files.backbone),
        "prompts": str(files.prompts) if files.prompts else None,
        "size": sum(p.stat().st_size for p in parts),
        "sha256": files.weights_hash(),
        "stop": config.stop.to_dict() if config.stop else None,
        "frames": config.frames,
        "labels": len(config.labels) if config.labels else None,
        "license": entry.license if entry else config.extra.get("license"),
        "training": config.extra.get("training"),
        "metrics": config.extra.get("metrics"),
    }


def _show(command: str, records: list[dict[str, Any]], format: str) -> None:
    import json

    if format == "json":
        typer.echo(
            json.dumps({"schema": 1, "command": command, "status": "ok", "data": records, "errors": []})
        )
    elif format == "jsonl":
        for record in records:
            typer.echo(json.dumps(record))
    elif format == "csv":
        import csv
        import sys

        writer = csv.DictWriter(sys.stdout, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    else:
        _table(records)


def _table(records: list[dict[str, Any]]) -> None:
    from stopcli.output.sink import fact_table, grid

    if len(records) == 1:
        fact_table(_readable(records[0]).items())
    else:
        grid([_readable(r) for r in records])


def _readable(record: dict[str, Any]) -> dict[str, str]:
    return {k: _value(k, v) for k, v in record.items()}


def _value(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "size":
        return f"{value / 1e6:.1f} MB"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in _plain(value))
    return str(value)


def _plain(value: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((k, v) for k, v in value.items() if v is not None)
