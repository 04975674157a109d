"""Make the parts of the documentation that come from the program: ``python docs/make.py [--check]``.

reference.md comes from the commands themselves, the pictures and the transcripts between
``<!-- run: ... -->`` marks from running them. ``--check`` changes nothing: it fails where the
reference is stale, a link leads nowhere, or a transcript names a command that is none.
"""

from __future__ import annotations

import argparse
import html
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
RUN = re.compile(r"(<!-- run: (?P<command>.+?) -->\n```console\n)(?P<shown>.*?)(```\n)", re.DOTALL)
EXPLAINED = (
    "stop explain --model mini samples/a-dog-moving-left.mp4 "
    "--labels 'a dog moving left,a dog moving right,a dog coming closer,a dog standing still' "
    f"-o {shlex.quote(str(DOCS / 'explain.png'))} --force"
)
SCRATCH = tempfile.TemporaryDirectory()  # for the index: a reader's first search
WIDTH = 116  # columns of a reader's terminal
PICTURES = {
    "classify.svg": "stop classify --model mini --top-k 1 samples/",
    "retrieve.svg": 'stop retrieve --model mini --query "a dog moving left" --top-k 4 samples/',
}


def reference() -> str:
    """Return the command reference, as the commands give it."""
    command = [sys.executable, "-m", "typer", "stopcli.cli.app", "utils", "docs", "--name", "stop", "--title", "Command reference"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    text = html.unescape(done.stdout)
    text = re.sub(r"\*\*?\[bold\]|\[/?bold\]", "", text)
    return re.sub(r"[ \t]+\n", "\n", text).rstrip() + "\n"


def execute(command: str, *, colour: bool = False) -> tuple[str, str]:
    """Run a command as a reader would, in a folder with ``samples/``; return its stdout and stderr."""
    words = shlex.split(command)
    assert words[0] == "stop", command
    environment = {**os.environ, "COLUMNS": str(WIDTH), "PYTHONPATH": str(ROOT / "src")}
    environment["STOPCLI_HOME"] = SCRATCH.name
    environment |= {"FORCE_COLOR": "1"} if colour else {"NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "stopcli", *words[1:]],
        cwd=ROOT / "src" / "stopcli" / "assets",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip("\n"), done.stderr.strip("\n")


def picture(command: str) -> str:
    """Return an SVG of a terminal that ran the command, when spinners and bars have gone."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), command))
    console.print(Text(execute(command)[1], "dim"))
    console.print(Text.from_ansi(execute(command, colour=True)[0]))
    return console.export_svg(title="stop", unique_id="stop")


def refresh(page: Path) -> None:
    """Run the commands of a page again and put in what they print."""
    def shown(match: re.Match[str]) -> str:
        command = match["command"]
        out, talk = execute(command)
        lines = [line.rstrip() for line in f"{talk}\n{out}".splitlines()]
        output = "\n".join(lines).strip("\n")
        return f"{match[1]}$ {command}\n{output}\n{match[4]}"

    text = page.read_text(encoding="utf-8")
    new = RUN.sub(shown, text)
    if new != text:
        page.write_text(new, encoding="utf-8")


def faults() -> list[str]:
    """Return what is wrong with the documentation as it stands."""
    found = []
    if not REFERENCE.exists() or REFERENCE.read_text(encoding="utf-8") != reference():
        found.append("docs/reference.md is stale: run 'make docs'")
    commands = {*re.findall(r"^## `stop (\w+)`", REFERENCE.read_text(encoding="utf-8"), re.M), "--help", "--version"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target and not (page.parent / target).exists():
                found.append(f"{page.relative_to(ROOT)}: the link to {target} leads nowhere")
        for name in re.findall(r"^\$? ?stop ([\w-]+)", text, re.M):
            if name not in commands and page != REFERENCE:
                found.append(f"{page.relative_to(ROOT)}: there is no 'stop {name}'")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail where something is stale")
    if parser.parse_args().check:
        found = faults()
        print("\n".join(found) or f"documentation: {len(PAGES)} pages are good")
        return int(bool(found))
    REFERENCE.write_text(reference(), encoding="utf-8")
    for name, command in PICTURES.items():
        (DOCS / name).write_text(picture(command), encoding="utf-8")
    execute(EXPLAINED)
    for page in PAGES:
        refresh(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
