"""The reference page, from the commands, ``errors.py`` and ``settings.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from stopcli import errors, settings
from stopcli.cli import session
from stopcli.cli.app import app

COMMAND: Any = typer.main.get_command(app)

EXIT_CODES = {
    "OK": "Everything was done.",
    "FAILED": "Some inputs failed, nothing matches a query, or the command failed for a reason without a code of its own.",
    "USAGE": "The command line is wrong.",
    "INPUT": "No input could be used, a table has faults, or the output exists already.",
    "MODEL": "The model cannot be found, downloaded, loaded or published.",
    "DEVICE": "The device is missing, out of memory, or computes wrong results.",
    "INTERRUPTED": "Ctrl-C.",
}
OTHER_VARIABLES = {
    "HF_HOME": "the folder of the Hugging Face cache, with the models in `hub/`",
    "HF_HUB_CACHE": "the folder of the downloaded models alone; default: `$HF_HOME/hub`",
    "HF_HUB_OFFLINE": "`1` makes no request, as `--offline` does",
    "HF_ENDPOINT": "the address of the Hub, for a mirror",
    "HF_TOKEN": "the access token for private models and for `stop models push`",
    "HF_HUB_VERBOSITY": "how much huggingface_hub logs, such as `debug`",
    "HF_HUB_DISABLE_PROGRESS_BARS": "`1` hides the progress bars of downloads, as `--quiet` does",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "set to `0` by `--engine ray` unless it is set: how Ray hides GPUs from work that asks for none",
    "RAY_AUTH_MODE": "`token` where a Ray cluster wants a token",
    "OMP_NUM_THREADS": "how many threads PyTorch computes with on a CPU",
    "OMP_WAIT_POLICY": "`active`: PyTorch's threads spin while they wait; `passive`: they sleep at once",
    "GOMP_SPINCOUNT": "set to `1000` by `stop` unless this or `OMP_WAIT_POLICY` is set: how long PyTorch's threads spin "
    "before they sleep, on Linux; see [speed](speed.md#what-makes-the-difference)",
    "SLURM_ARRAY_TASK_ID": "set by SLURM, with `SLURM_ARRAY_TASK_COUNT`: the part that `--shard auto` does; or "
    "`SLURM_PROCID`, with `SLURM_NTASKS`",
    "SLURM_ARRAY_TASK_MIN": "set by SLURM: the first number of the array",
    "SLURM_ARRAY_TASK_STEP": "set by SLURM: the step of the array",
    "RANK": "set by torchrun: the number of this process; `--shard auto` reads it too",
    "WORLD_SIZE": "set by torchrun: how many processes there are",
    "LOCAL_RANK": "set by torchrun: the number of this process on its machine",
    "CUDA_VISIBLE_DEVICES": "the GPUs that PyTorch may use",
    "NO_COLOR": "set: no colors",
    "COLUMNS": "the width of the terminal",
}
INTERNAL_VARIABLES = {"_STOP_COMPLETE"}  # set by the completion scripts


def reference() -> str:
    """Return the reference page."""
    parts = [
        "# Reference",
        "Every command, option, exit code and environment variable. `make docs` generates this page from the "
        "program. `--help`, or `-h`, shows the same in the terminal.",
    ]
    parts += ["\n".join(f"- {link}" for link in _contents())]
    parts += _command(COMMAND, "stop")
    for path, command in _walk(COMMAND, "stop"):
        parts += _command(command, path)
    parts += ["## Exit codes", _exit_codes()]
    parts += [
        "## Fault classes",
        "With `--format json` or `jsonl`, every error has one of these names under `error`. The exit code is "
        "the one that the command ends with when the fault stops it.",
        _fault_classes(),
    ]
    parts += ["## Environment variables", _table(("Variable", "Meaning"), variables())]
    parts += [
        "These belong to the libraries that stopcli uses, and mean what they always mean:",
        _table(("Variable", "Meaning"), [(f"`{name}`", text) for name, text in OTHER_VARIABLES.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _contents() -> Iterator[str]:
    for heading in [f"`{path}`" for path, _ in _walk(COMMAND, "stop")]:
        yield f"[{heading}](#{anchor(heading)})"
    for heading in ("Exit codes", "Fault classes", "Environment variables"):
        yield f"[{heading}](#{anchor(heading)})"


def _walk(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every command below a group, with its words, panel by panel as --help shows them."""
    panels: dict[Any, list[str]] = {}
    for name in group.commands:
        panels.setdefault(group.commands[name].rich_help_panel, []).append(name)
    for names in panels.values():
        for name in names:
            command = group.commands[name]
            yield f"{path} {name}", command
            if getattr(command, "commands", None):
                yield from _walk(command, f"{path} {name}")


def _command(command: Any, path: str) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    usage = [path, "[OPTIONS]", *(_argument(p) for p in _parameters(command, "argument"))]
    yield f"## `{path}`"
    yield re.sub(r"\[/?bold\]", "", command.help or "").strip()
    yield f"```\n{' '.join(usage)}{' COMMAND [ARGS]...' if inner else ''}\n```"
    if inner:
        shown = [(name.removeprefix(f"{path} "), c) for name, c in _walk(command, path)]
        yield _table(
            ("Command", "What it does"), [(f"`{n}`", _first_line(c)) for n, c in shown if n in inner]
        )
    arguments = [f"- `{_argument(p)}`: {p.help}" for p in _parameters(command, "argument")]
    if arguments:
        yield "**Arguments**"
        yield "\n".join(arguments)
    panels: dict[str, list[str]] = {}
    for parameter in _parameters(command, "option"):
        panels.setdefault(parameter.rich_help_panel or "Options", []).append(_option(parameter))
    if "Options" in panels:
        panels["Options"] = panels.pop("Options")  # last
    for panel, options in panels.items():
        yield f"**{panel}**"
        yield "\n".join(options)
    if command.epilog:
        yield "**Examples**"
        yield f"```sh\n{_examples(command.epilog)}\n```"


def _parameters(command: Any, kind: str) -> list[Any]:
    return [p for p in command.params if p.param_type_name == kind and not p.hidden]


def _first_line(command: Any) -> str:
    return str(command.help or "").strip().split("\n")[0]


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    """Return one option as a line of a list."""
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag else f" `{parameter.metavar or _choices(parameter)}`"
    default = getattr(parameter.default, "value", parameter.default)
    facts = []
    if parameter.required:
        facts.append("required")
    if default not in (None, False, ()) and "default" not in (parameter.help or ""):
        facts.append(f"default: `{default}`")
    low, high = parameter.min, parameter.max
    if low is not None and high is not None:
        facts.append(f"from {low:.12g} to {high:.12g}")
    elif low is not None:
        facts.append(f"{low:g} or more")
    return f"- {names}{value}: {parameter.help}" + (f" ({'; '.join(facts)})" if facts else "")


def _choices(parameter: Any) -> str:
    """Return the values of an option that has a fixed set of them: ``auto|fp32|bf16``."""
    found = re.search(r"<(.+)>", parameter.get_help_record(COMMAND.context_class(COMMAND))[0])
    assert found and "[" not in found[1] and found[1].islower(), f"{parameter.opts}: give it a metavar"
    return found[1]


def _examples(epilog: str) -> str:
    """Return the commands of an epilog, without its headings."""
    lines = (line.strip() for line in epilog.splitlines())
    return "\n".join(line for line in lines if line and not line.endswith(":"))


def _exit_codes() -> str:
    rows = [(f"{status.value}", EXIT_CODES[status.name]) for status in errors.ExitStatus]
    return _table(("Code", "Meaning"), rows)


def _fault_classes() -> str:
    known = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.StopError)]
    base = {errors.StopError}
    rows = []
    for error in [*known, session.Interrupted]:
        if error not in base:
            meaning = (error.__doc__ or "").strip().split("\n")[0].replace("``", "`")
            rows.append((f"`{error('').kind}`", str(int(error.exit_status)), meaning))
    return _table(("Class", "Exit code", "Meaning"), sorted(rows))


def variables() -> list[tuple[str, str]]:
    """Return the variables that ``settings.py`` lists, and what it says of them."""
    rows = re.findall(r"^\| (``\w+``) \| (.+) \|$", settings.__doc__ or "", re.M)
    assert rows, "settings.py lists no environment variable in its docstring"
    return [(name.replace("``", "`"), meaning.replace("``", "`")) for name, meaning in rows]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def anchor(heading: str) -> str:
    """Return what a heading is called in links."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
