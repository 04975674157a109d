"""The command ``stop``: its commands, and the one place that turns errors into exit codes."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any, get_args

import typer
from typer.completion import completion_init, install_callback, show_callback  # type: ignore[attr-defined]
from typer.exceptions import TyperException

from stopcli import __version__
from stopcli.cli import (
    benchmark,
    classify,
    cut,
    doctor,
    embed,
    explain,
    finetune,
    index,
    mcp,
    models,
    retrieve,
    samples,
    serve,
    watch,
)
from stopcli.errors import ExitStatus, InternalError, StopError, UsageError

PLAIN = {  # how Typer says it, and how this project does
    "Input should be greater than or equal to": "must be at least",
    "Input should be less than or equal to": "must be at most",
    "Input should be a valid number, unable to parse string as a number": "must be a number",
    "Input should be a valid integer, unable to parse string as an integer": "must be a whole number",
    "Value error, ": "",
}
MAIN, MANAGE = "Commands", "Models, index and installation"

app = typer.Typer(
    name="stop",
    help="Label, search, embed and adapt your own videos, on your own machine.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,  # the two options below load nothing until they are used
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("classify", epilog=classify.EXAMPLES, rich_help_panel=MAIN)(classify.command)
app.command("retrieve", epilog=retrieve.EXAMPLES, rich_help_panel=MAIN)(retrieve.command)
app.command("embed", epilog=embed.EXAMPLES, rich_help_panel=MAIN)(embed.command)
app.command("cut", epilog=cut.EXAMPLES, rich_help_panel=MAIN)(cut.command)
app.command("serve", epilog=serve.EXAMPLES, rich_help_panel=MAIN)(serve.serve)
app.command("label", epilog=serve.LABEL_EXAMPLES, rich_help_panel=MAIN)(serve.label)
app.command("mcp", epilog=mcp.EXAMPLES, rich_help_panel=MAIN)(mcp.command)
app.command("watch", epilog=watch.EXAMPLES, rich_help_panel=MAIN)(watch.command)
app.command("explain", epilog=explain.EXAMPLES, rich_help_panel=MAIN)(explain.command)
app.command("finetune", epilog=finetune.EXAMPLES, rich_help_panel=MAIN)(finetune.command)
app.add_typer(benchmark.app, name="benchmark", epilog=benchmark.EXAMPLES, rich_help_panel=MAIN)
app.add_typer(models.app, name="models", epilog=models.EXAMPLES, rich_help_panel=MANAGE)
app.add_typer(index.app, name="index", epilog=index.EXAMPLES, rich_help_panel=MANAGE)
app.command("samples", epilog=samples.EXAMPLES, rich_help_panel=MANAGE)(samples.command)
app.command("doctor", epilog=doctor.EXAMPLES, rich_help_panel=MANAGE)(doctor.command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"stopcli {__version__}")
        raise typer.Exit


_show_version = typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
_install = typer.Option(
    "--install-completion", callback=install_callback, is_eager=True, help="Complete on Tab."
)
_show = typer.Option(
    "--show-completion", callback=show_callback, is_eager=True, help="Show how Tab is set up."
)


@app.callback()
def _root(
    version: Annotated[bool, _show_version] = False,
    install: Annotated[bool, _install] = False,
    show: Annotated[bool, _show] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run a command line, by default that of the process, and return its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # file names may be no text; a terminal may know few letters
            if os.name == "nt" and not stream.isatty():  # not in the country's alphabet
                stream.reconfigure(encoding="utf-8")
            utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    if "_STOP_COMPLETE" in os.environ or any("-completion" in word for word in given):
        completion_init()
    command: Any = typer.main.get_command(app)
    _drop_types(command)
    try:
        status = int(command(args=given, prog_name="stop", standalone_mode=False) or ExitStatus.OK)
        sys.stdout.flush()
        return status
    except StopError as error:
        return _report(error, given)
    except TyperException as error:
        message = error.format_message().rstrip(".")
        if not message:  # help was shown, for want of a command
            return int(ExitStatus.USAGE)
        for theirs, ours in PLAIN.items():
            message = message.replace(theirs, ours)
        hint = f"; see 'stop {_command(given, command)}--help'"
        return _report(UsageError(message[:1].lower() + message[1:] + hint), given)
    except typer.Abort:
        print("interrupted", file=sys.stderr)
        return int(ExitStatus.INTERRUPTED)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return int(ExitStatus.OK)
        if error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        print(f"error: the output cannot be written ({error.strerror})", file=sys.stderr)
        return int(ExitStatus.FAILED)
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else int(bool(exit_request.code))
    except Exception as error:
        if {"-v", "--verbose"} & set(given):
            raise
        return _report(InternalError.of(error), given)


def _drop_types(command: Any) -> None:
    """Leave Python's names of types (``<bool>``, ``<list[Path]>``) out of the help."""
    all_of = command.get_params

    def get_params(context: Any) -> list[Any]:
        parameters: list[Any] = all_of(context)
        for parameter in parameters:
            if parameter.param_type_name == "argument" or parameter.is_flag:
                parameter.display_type_rich = lambda ctx: None  # noqa: ARG005
        return parameters

    command.get_params = get_params
    for inner in getattr(command, "commands", {}).values():
        _drop_types(inner)


def _report(error: StopError, given: list[str]) -> int:
    """Say an error that came before a command had an output of its own."""
    if not error.reported:
        from contextlib import suppress

        from stopcli.output.sink import Sink

        name = _command(given, typer.main.get_command(app)).strip() or given[0]
        with suppress(StopError), Sink(name, _format(given)):
            raise error
    return int(error.exit_status)


def _command(given: list[str], command: Any) -> str:
    """Return the command's words, as far as there is such a command, with a space behind each."""
    words = ""
    for word in given:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        words += f"{word} "
    return words


def _format(given: list[str]) -> str:
    """Return the --format asked for on a command line that could not be understood."""
    from stopcli.cli.options import Format

    words = " ".join(given).replace("--format=", "--format ").split()
    value = words[words.index("--format") + 1] if "--format" in words[:-1] else "auto"
    return value if value in get_args(Format) else "auto"
