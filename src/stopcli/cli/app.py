"""The command ``stop``: its commands, and the one place that turns errors into exit codes."""

from __future__ import annotations

import difflib
import sys
from typing import Annotated

import typer
from typer.completion import install_callback, show_callback

from stopcli import __version__
from stopcli.cli import benchmark, classify, doctor, embed, explain, finetune, index, models, retrieve
from stopcli.cli import options as o
from stopcli.errors import ExitStatus, StopError

app = typer.Typer(
    name="stop",
    help="Label, search, embed and adapt your own videos, on your own machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,  # nor Typer's own flags: it would load pydantic to see that they are absent
    add_help_option=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("classify", epilog=classify.EXAMPLES)(classify.command)
app.command("retrieve", epilog=retrieve.EXAMPLES)(retrieve.command)
app.command("embed", epilog=embed.EXAMPLES)(embed.command)
app.command("finetune", epilog=finetune.EXAMPLES)(finetune.command)
app.add_typer(benchmark.app, name="benchmark", epilog=benchmark.EXAMPLES)
app.command("explain", epilog=explain.EXAMPLES)(explain.command)
app.add_typer(index.app, name="index", epilog=index.EXAMPLES)
app.add_typer(models.app, name="models", epilog=models.EXAMPLES)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.command)
COMMANDS = ("classify", "retrieve", "embed", "finetune", "benchmark", "explain", "index", "models", "doctor")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"stopcli {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    install: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=install_callback,
            is_eager=True,
            help="Complete commands in this shell.",
        ),
    ] = False,
    show: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            callback=show_callback,
            is_eager=True,
            help="Show what --install-completion adds.",
        ),
    ] = False,
    help: o.Help = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit status.

    Args:
        arguments: without the program's name; None takes those of the process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")  # file names may be no text
    try:
        _check_command(given)
        app(args=given, prog_name="stop")
    except StopError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_status)
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else int(bool(exit_request.code))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return int(ExitStatus.INTERRUPTED)
    return int(ExitStatus.OK)


def _check_command(given: list[str]) -> None:
    """Offer the nearest command for a name that is none."""
    from stopcli.errors import UsageError

    name = next((word for word in given if not word.startswith("-")), None)
    if name is None or name in COMMANDS:
        return
    close = difflib.get_close_matches(name, COMMANDS, 1)
    hint = f"did you mean 'stop {close[0]}'?" if close else f"the commands are {', '.join(COMMANDS)}"
    raise UsageError(f"no command {name!r}; {hint}")
