"""Make the parts of the documentation that come from the program: ``python docs/tools/make.py [--check]``.

The reference comes from the commands, ``errors.py`` and ``settings.py``. The pictures, and the
transcripts between ``<!-- run: ... -->`` marks and tables between ``<!-- table: ... -->`` marks, come from
running commands. ``--check`` changes nothing.
It fails when the reference is stale, a link or an anchor leads nowhere, the program would refuse a command
line, an environment variable is in no list, or a page names a folder of somebody's machine.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
sys.path[:0] = [str(SOURCE), str(ROOT / "docs")]

from tools.page import draw  # noqa: E402
from tools.checks import DOCS, PAGES, REFERENCE, faults  # noqa: E402
from tools.reference import reference  # noqa: E402

WIDTH = 116  # columns of a reader's terminal
SCRATCH = tempfile.TemporaryDirectory()  # a reader's folder, with samples/ in it

RUN = re.compile(r"(<!-- run: (?P<command>.+?) -->\n```console\n)(?P<shown>.*?)(```\n)", re.DOTALL)
TABLE = re.compile(r"(<!-- table: (?P<command>.+?) -->\n).*?(<!-- end of table -->\n)", re.DOTALL)
YES_NO = {"True": "yes", "False": "no"}
PICTURES = {"classify.svg": "stop classify --model mini --top-k 1 samples/"}
EXPLAINED = (
    "stop explain --model mini samples/a-dog-moving-left.mp4 --force "
    '--labels "a dog moving left,a dog moving right,a dog coming closer,a dog standing still" '
    f"-o {shlex.quote(str(DOCS / 'images' / 'explain.png'))}"
)


def execute(command: str, *, color: bool = False) -> tuple[str, str]:
    """Run a command as a reader would, in a folder with ``samples/``; return its stdout and stderr."""
    words = shlex.split(command)
    assert words[0] == "stop", command
    here = Path(SCRATCH.name)
    if not (here / "samples").exists():
        shutil.copytree(SOURCE / "stopcli" / "assets" / "samples", here / "samples")
    environment = {**os.environ, "COLUMNS": str(WIDTH), "PYTHONPATH": str(SOURCE)}
    environment["STOPCLI_HOME"] = str(here / "home")
    environment |= {"FORCE_COLOR": "1"} if color else {"NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "stopcli", *words[1:]],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "no confident match" not in done.stderr:  # an answer too
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.stdout.strip("\n"), done.stderr.strip("\n")


def picture(command: str) -> str:
    """Return an SVG of a terminal after the command, without its progress bars."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), command))
    console.print(Text(execute(command)[1], "dim"))
    console.print(Text.from_ansi(execute(command, color=True)[0]))
    return console.export_svg(title="stop", unique_id="stop")


def refresh(page: Path) -> None:
    """Run the commands of a page again and put in what they print."""

    def shown(match: re.Match[str]) -> str:
        out, talk = execute(match["command"])
        lines = [line.rstrip() for line in f"{talk}\n{out}".splitlines()]
        output = "\n".join(lines).strip("\n")
        return f"{match[1]}$ {match['command']}\n{output}\n{match[4]}"

    def table(match: re.Match[str]) -> str:
        rows = list(csv.reader(io.StringIO(execute(f"{match['command']} --format csv")[0])))
        lines = [rows[0], ["---"] * len(rows[0]), *([YES_NO.get(c, c) for c in row] for row in rows[1:])]
        return "".join([match[1], *(f"| {' | '.join(line)} |\n" for line in lines), match[3]])

    text = page.read_text(encoding="utf-8")
    new = TABLE.sub(table, RUN.sub(shown, text))
    if new != text:
        page.write_text(new, encoding="utf-8")


def main() -> int:
    """Write the generated parts, or check everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, fail where something is stale")
    if parser.parse_args().check:
        found = list(faults())
        print("\n".join(found) or f"documentation: {len(PAGES)} pages are good")
        return int(bool(found))
    REFERENCE.write_text(reference(), encoding="utf-8")
    for name, command in PICTURES.items():
        (DOCS / "images" / name).write_text(picture(command), encoding="utf-8")
    execute(EXPLAINED)
    draw(DOCS / "images")
    for page in PAGES:
        refresh(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
