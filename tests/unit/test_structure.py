"""The layers hold, and what need not be loaded is not."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "stopcli"
HEAVY = {"torch", "open_clip", "av", "huggingface_hub"}
# a package imports only packages of the groups to its left, never one of its own group
GROUPS = (
    {"errors", "settings", "results", "fileio"},
    {"video", "model"},
    {"hub", "data", "runtime", "output"},
    {"index", "eval", "tasks"},
    {"train"},
    {"web", "api", "cli"},
)
MAY_IMPORT_TORCH = ("model.", "runtime.", "train.distributed")


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", ".")


MODULES = {name_of(p): p for p in SOURCE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py")}
LEVEL = {name: i for i, group in enumerate(GROUPS) for name in group}


def package(name: str) -> str:
    return name.partition(".")[0]


def imports(path: Path) -> set[str]:
    """Modules of stopcli that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stopcli"):
            base = node.module.removeprefix("stopcli").lstrip(".")
            found |= {base} if base in MODULES else {f"{base}.{a.name}".lstrip(".") for a in node.names}
    return found & set(MODULES)


def test_every_package_has_a_place():
    assert {package(name) for name in MODULES} <= set(LEVEL)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_left_only(name):
    mine = package(name)
    wrong = {
        other
        for other in imports(MODULES[name])
        if package(other) != mine and LEVEL[package(other)] >= max(1, LEVEL[mine])
    }
    assert wrong == set()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_heavy_libraries_are_imported_where_they_are_used(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    top = {a.name.split(".")[0] for n in tree.body if isinstance(n, ast.Import) for a in n.names}
    top |= {n.module.split(".")[0] for n in tree.body if isinstance(n, ast.ImportFrom) and n.module}
    allowed = {"torch"} if name.startswith(MAY_IMPORT_TORCH) else set()
    assert top & HEAVY <= allowed


def test_only_the_runtime_moves_tensors_to_devices():
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        if not name.startswith("runtime."):
            assert "self.device)" not in text, name
            assert ".cuda(" not in text, name
            assert '.to("' not in text, name


def test_library_code_neither_prints_nor_exits():
    for name, path in MODULES.items():
        if package(name) != "cli" and name not in ("output.sink", "output.terminal"):
            calls = {
                n.func.id
                for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            }
            assert not calls & {"print", "exit"}, name


COMMANDS = [
    [],
    ["classify"],
    ["retrieve"],
    ["embed"],
    ["benchmark"],
    ["benchmark", "accuracy"],
    ["benchmark", "speed"],
    ["finetune"],
    ["explain"],
    ["index"],
    ["index", "update"],
    ["index", "ls"],
    ["index", "rm"],
    ["index", "merge"],
    ["index", "compact"],
    ["index", "info"],
    ["models"],
    ["models", "list"],
    ["models", "info"],
    ["models", "pull"],
    ["models", "push"],
    ["doctor"],
]


@pytest.mark.parametrize(
    "arguments", [[*c, "--help"] for c in COMMANDS] + [["--version"], ["--show-completion"]]
)
def test_help_loads_nothing_heavy(arguments):
    code = f"""
import sys, json, contextlib, io
from stopcli.cli.app import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    status = main({arguments!r})
print(json.dumps([status, len(out.getvalue()), sorted(set(sys.modules) & {HEAVY | {"numpy"}!r})]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, length, loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    if "--show-completion" not in arguments:  # it wants to know the shell it runs in
        assert status == 0
        assert length > 5


@pytest.mark.parametrize("command", [c for c in COMMANDS if c])
def test_every_command_shows_examples(run, command):
    _, out, _ = run(*command, "--help")
    assert "Examples" in out
    assert f"stop {command[0]}" in out.split("Examples")[1]
