"""``stop models``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.completion import complete_model
from stopcli.cli.session import session
from stopcli.errors import FileMissing, NothingFound, UsageError
from stopcli.fileio import is_folder

EXAMPLES = "Examples:\n  stop models list\n  stop models info mini\n  stop models pull hf:org/repo"
PUSH_EXAMPLES = """Examples:
  stop models push my-model/ me/my-model
  stop models push my-model/ me/my-model --license apache-2.0 --public"""

app = typer.Typer(help="See, fetch and publish models.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME|hf:ORG/REPO|PATH", help="A model.", autocompletion=complete_model)
]


@app.command("list", epilog="Examples:\n  stop models list\n  stop models list --format json")
@o.shares(o.Show)
def list_(show: o.Show) -> None:
    """List the models that have a name, and whether their files are here."""
    with session("models list", show) as s:
        from stopcli.settings import default_model
        from stopcli.tasks.models import list_models

        s.output.add_all(list_models(default_model()))


@app.command("towers", epilog="Examples:\n  stop models towers\n  stop models towers siglip2 --format json")
@o.shares(o.Show)
def towers(
    show: o.Show, name: Annotated[str, typer.Argument(metavar="TEXT", help="Only names with this.")] = ""
) -> None:
    """List what open_clip can build, to be a model's backbone.

    fit is how published weights want frames made square, and prompts whether STOP can be trained on it.
    """
    with session("models towers", show) as s:
        from stopcli.tasks.models import list_towers

        found = list(list_towers(name))
        if not found:
            raise NothingFound(f"open_clip has no architecture with {name!r} in its name")
        s.output.add_all(found)


@app.command("search", epilog="Examples:\n  stop models search\n  stop models search birds --format json")
@o.shares(o.Show)
def search(
    show: o.Show, text: Annotated[str, typer.Argument(metavar="TEXT", help="Only names with this.")] = ""
) -> None:
    """List models that people published on the Hub for stopcli.

    Those are the repositories with the tag stopcli.
    """
    with session("models search", show) as s:
        from stopcli.hub.client import search as find

        found = list(find(text))
        if not found:
            what = f" and {text!r} in their name" if text else ""
            raise NothingFound(f"the Hub has no models with the tag stopcli{what}")
        s.output.add_all(found)
        s.say("next: stop models info hf:ORG/REPO")


@app.command("info", epilog="Examples:\n  stop models info mini\n  stop models info ./my-model --format json")
@o.shares(o.Show)
def info(show: o.Show, name: Name, offline: o.Offline = False) -> None:
    """Show a model's files, size, settings, license and provenance.

    A model whose files are not here is fetched, unless --offline.
    """
    with session("models info", show, o.Compute(model=name, offline=offline)) as s:
        from stopcli.tasks.models import describe_model

        s.output.add(describe_model(s.resolve()))


@app.command("pull", epilog="Examples:\n  stop models pull vit-b-32\n  stop models pull hf:org/repo@v1")
@o.shares(o.Show)
def pull(show: o.Show, name: Name) -> None:
    """Fetch a model's files, or newer ones, into the cache.

    From then on the model works offline.
    """
    kept = "files that have arrived whole are kept"
    with session("models pull", show, o.Compute(model=name), kept=kept) as s:
        from stopcli.results import Written

        files = s.resolve(refresh=True)
        s.output.add(Written(str(files.folder or files.backbone), files.name))


@app.command("push", epilog=PUSH_EXAMPLES)
@o.shares(o.Show)
def push(
    show: o.Show,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder, as finetune makes it.")],
    repo: Annotated[str, typer.Argument(metavar="ORG/REPO", help="Where to; made if it is not there.")],
    license: Annotated[
        str | None, typer.Option(metavar="SPDX", help="For the card, such as apache-2.0.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everyone see it; default: private.")] = False,
    force: o.Force = False,
) -> None:
    """Send a model folder to the Hub.

    Weights, settings, card and pictures are sent. A new repository is private unless --public is given; one
    that exists stays as it is. Files that are no model of stopcli are replaced with --force only.
    """
    with session("models push", show, kept="nothing was published") as s:
        from stopcli.hub.client import push as send
        from stopcli.hub.client import split_hub_name
        from stopcli.hub.publish import publishable
        from stopcli.results import Written

        if not is_folder(folder):
            raise FileMissing(f"{folder}: no such folder; name a model folder")
        name, revision = split_hub_name(f"hf:{repo.removeprefix('hf:')}")
        if revision is not None:
            raise UsageError(f"{repo}: a model goes to the main branch; leave out @{revision}")
        files = publishable(folder, license)
        for file, content in files.items():
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            s.say(f"to be published: {file} ({size / 1e6:.2f} MB)")
        message = f"stopcli: {folder.resolve().name}"
        address, private = send(files, name, private=not public, message=message, force=force)
        s.output.add(Written(address, "private" if private else "public"))
        s.say(f"next, anywhere: stop classify --model hf:{name} VIDEO|DIR...")
