"""The house rules: who imports whom, how large things may be, and what need not be loaded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_matrix import FAILURES

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "stopcli"
HEAVY = {"torch", "open_clip", "av", "huggingface_hub"}
# a package imports only packages of the groups to its left, never another of its own group
GROUPS = (
    {"errors", "settings", "results", "fileio"},
    {"video", "model"},
    {"hub", "data", "runtime", "output"},
    {"index", "eval", "tasks"},
    {"train"},
    {"web", "api", "mteb"},
    {"cli"},
)
LEVEL = {name: i for i, group in enumerate(GROUPS) for name in group}
MAY_IMPORT_TORCH = ("model.", "runtime.", "train.distributed")
MOST_LINES, MOST_CLASS_LINES, MOST_FILES = 350, 200, 10


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", ".")


MODULES = {name_of(p): p for p in SOURCE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py")}


def package(name: str) -> str:
    return name.partition(".")[0]


def imports(text: str) -> set[str]:
    """Modules of stopcli that a source text imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stopcli"):
            base = node.module.removeprefix("stopcli").lstrip(".")
            found |= {base} if base in MODULES else {f"{base}.{a.name}".lstrip(".") for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("stopcli.") for a in node.names}
    return found & set(MODULES)


def forbidden(name: str, text: str) -> set[str]:
    """Imports of a module that the rule forbids: upward, or of another package of its own group."""
    mine, level = package(name), LEVEL[package(name)]
    others = {other for other in imports(text) if package(other) != mine}
    return {o for o in others if LEVEL[package(o)] > level or (LEVEL[package(o)] == level and level > 0)}


def test_every_package_has_a_place():
    assert {package(name) for name in MODULES} <= set(LEVEL)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_left_only(name):
    assert forbidden(name, MODULES[name].read_text(encoding="utf-8")) == set()


def test_the_rule_finds_what_breaks_it():
    upward = "def late():\n    from stopcli.cli import app\n"
    assert forbidden("video.clips", upward) == {"cli.app"}
    assert forbidden("video.clips", "import stopcli.cli.app") == {"cli.app"}
    assert forbidden("output.html", "from stopcli.runtime.encoder import Encoder") == {"runtime.encoder"}
    assert forbidden("train.trainer", "from stopcli.runtime.encoder import Encoder") == set()


def test_there_is_no_circle():
    graph = {name: imports(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
    while free := {name for name, needs in graph.items() if not needs & set(graph)}:
        graph = {name: needs for name, needs in graph.items() if name not in free}
    assert graph == {}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_heavy_libraries_are_imported_where_they_are_used(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    top = {a.name.split(".")[0] for n in tree.body if isinstance(n, ast.Import) for a in n.names}
    top |= {n.module.split(".")[0] for n in tree.body if isinstance(n, ast.ImportFrom) and n.module}
    allowed = {"torch"} if name.startswith(MAY_IMPORT_TORCH) else set()
    assert top & HEAVY <= allowed


def moves(text: str) -> list[str]:
    """Calls that put a tensor on a device: ``x.cuda()``, ``x.to(device)``, ``torch.zeros(..., device=...)``."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        where = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "device")]
        names = [ast.unparse(w) for w in where if "device" in ast.unparse(w) or isinstance(w, ast.Constant)]
        copies = any(
            n.endswith(".device") and not n.startswith("self") for n in names
        )  # beside another tensor
        if node.func.attr == "cuda" or (node.func.attr == "to" and names and not copies):
            found.append(ast.unparse(node))
    return found


def test_only_the_runtime_moves_tensors_to_devices():
    assert moves("x.to('cuda')\ny.cuda()\nz.to(self.device)\nw.to(device, dtype)") != []
    assert moves("x.to(h.dtype)\ny.to(h.device)\nz.cpu()") == []
    for name, path in MODULES.items():
        if not name.startswith("runtime."):
            assert moves(path.read_text(encoding="utf-8")) == [], name


def test_library_code_neither_prints_nor_exits():
    for name, path in MODULES.items():
        if package(name) == "cli" or name in ("output.sink", "output.terminal"):
            continue
        calls = {
            n.func.id
            for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not calls & {"print", "exit"}, name


def test_json_is_written_by_the_sink_alone():
    for name, path in MODULES.items():
        if package(name) == "cli":
            assert "json.dumps" not in path.read_text(encoding="utf-8"), name


def test_files_are_replaced_by_the_one_writer_alone():
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert name == "fileio" or ("os.replace" not in text and '.part"' not in text), name


def test_a_command_parses_calls_and_renders():
    """No body of a command is longer than 25 lines."""
    bodies = {}
    for path in (SOURCE / "cli").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and any(
                "shares" in ast.unparse(d) for d in node.decorator_list
            ):
                bodies[f"{path.stem}.{node.name}"] = node.end_lineno - node.body[1].lineno + 1
    assert len(bodies) == len(FAILURES)
    assert {name: lines for name, lines in bodies.items() if lines > 25} == {}


def python_files() -> list[Path]:
    return [p for folder in ("src", "tests", "training") for p in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_too_large(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno - node.lineno < MOST_CLASS_LINES, node.name


def test_no_folder_is_crowded():
    """At most ten files a folder; ``cli`` has one a command beside its own."""
    for path in {p.parent for p in python_files()} | {ROOT / "docs"}:
        files = [p.name for p in path.iterdir() if p.is_file() and p.name not in ("__init__.py", "py.typed")]
        commands = (
            {words.split()[0] for words in FAILURES} if path.name == "cli" and "src" in path.parts else set()
        )
        assert len([f for f in files if f.removesuffix(".py") not in commands]) <= MOST_FILES, path


HELP = [*(c.split() for c in FAILURES), [], ["benchmark"], ["index"], ["models"]]


@pytest.mark.parametrize(
    "arguments", [[*c, "--help"] for c in HELP] + [["--version"], ["--show-completion"]], ids=" ".join
)
def test_help_loads_nothing_heavy(arguments):
    code = f"""
import sys, json, contextlib, io
from stopcli.cli.app import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    status = main({arguments!r})
print(json.dumps([status, len(out.getvalue()), sorted(set(sys.modules) & {HEAVY | {"numpy"}!r})]))
"""
    # from a shell, whatever the tests were started from: completion asks which one it is
    inside = ["bash", "-c", '"$0" -c "$1"; exit $?', sys.executable, code]
    done = subprocess.run(inside, capture_output=True, text=True, check=True)
    status, length, loaded = json.loads(done.stdout)
    assert (status, loaded) == (0, []), done.stderr
    assert length > 0


def test_no_two_files_of_tests_have_one_name():
    """All of them are run together, too."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
