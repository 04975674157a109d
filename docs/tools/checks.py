"""What may be wrong with the documentation: stale parts, dead links, commands that the program refuses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tools.reference import COMMAND, INTERNAL_VARIABLES, OTHER_VARIABLES, anchor, reference, variables
from typer.exceptions import TyperException

ROOT = Path(__file__).parents[2]
DOCS, SOURCE = ROOT / "docs", ROOT / "src"
REFERENCE = DOCS / "reference.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
CUT_SHORT = {"MissingParameter", "BadOptionUsage", "BadParameter"}  # in a sentence: `stop finetune --shots K`
TEST_VARIABLES = {"STOPCLI_MEDIA", "STOPCLI_REQUIRE_GPU"}


def faults() -> Iterator[str]:
    """Yield what is wrong with the documentation as it stands."""
    if not REFERENCE.exists() or REFERENCE.read_text(encoding="utf-8") != reference():
        yield "docs/reference.md is stale: run 'make docs'"
    yield from _unlisted_variables()
    for page in PAGES:
        text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT)
        for target, fragment in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
            if "://" not in target and (fault := _link_fault(page, target, fragment)):
                yield f"{name}: {fault}"
        for command, whole in command_lines(text):
            if fault := refusal(command, whole=whole):
                yield f"{name}: {command!r}: {fault}"
        for place in re.findall(r"/(?:root|home|Users|work)/[\w.-]+", text):
            yield f"{name}: {place} is a folder of somebody's machine"


def _link_fault(page: Path, target: str, fragment: str) -> str | None:
    aim = (page.parent / target).resolve() if target else page
    if not aim.exists():
        return f"the link to {target} leads nowhere"
    if fragment and aim.suffix == ".md":
        headings = re.findall(r"^#+ (.+)$", aim.read_text(encoding="utf-8"), re.M)
        if fragment not in map(anchor, headings):
            return f"the link to {target}#{fragment} leads to no heading"
    return None


def _unlisted_variables() -> Iterator[str]:
    """Yield environment variables that the program reads and the reference does not list, and the reverse."""
    listed = {name.strip("`") for name, _ in variables()}
    known = listed | OTHER_VARIABLES.keys() | INTERNAL_VARIABLES
    use = r"""environ(?:\.\w+\(|\[)\s*["'](\w+)["']|["'](\w+)["'] (?:not )?in os\.environ"""
    for file in SOURCE.rglob("*.py"):
        for names in re.findall(use, file.read_text(encoding="utf-8")):
            if (name := "".join(names)) not in known:
                yield f"{file.relative_to(ROOT)} reads {name}, which the reference does not list"
    for page in PAGES:
        for name in set(re.findall(r"\bSTOPCLI_\w+", page.read_text(encoding="utf-8"))) - listed:
            if name not in TEST_VARIABLES:
                yield f"{page.relative_to(ROOT)}: the program does not read {name}"


def command_lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the ``stop`` commands of a page, and whether they are whole: a sentence may cut one short."""
    text = re.sub(r"^## `stop.*?^```\n.*?^```\n", "", text, flags=re.M | re.S)  # usage lines of the reference
    fences = re.findall(r"^```(?:console|sh|bash)?\n(.*?)^```", text, re.M | re.S)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    blocks = [*fences, "\n".join(re.findall(r"^    (.+)$", prose, re.M))]
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            yield from ((command, True) for command in _commands_of(line.strip().removeprefix("$ ")))
    for span in re.findall(r"`([^`\n]+)`", re.sub(r"^    .+$", "", prose, flags=re.M)):
        yield from ((command, False) for command in _commands_of(span))


def _commands_of(line: str) -> Iterator[str]:
    """Yield what a line of a shell passes to ``stop``."""
    if not re.search(r"\bstop(cli)? ", line):
        return
    words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    words.whitespace_split = True
    try:
        parts: list[list[str]] = [[]]
        for word in words:
            if re.fullmatch(r"[|&;<>]+", word):
                parts.append([])
            else:
                parts[-1].append(word)
    except ValueError:  # a line of output, not of a shell
        return
    for part in parts:
        while part and re.fullmatch(r"\w+=.*", part[0]):
            part = part[1:]
        if part[:1] == ["stop"]:
            yield shlex.join(part)
        elif "stopcli" in part and part[part.index("stopcli") - 1] == "-m":
            yield shlex.join(["stop", *part[part.index("stopcli") + 1 :]])


def refusal(line: str, *, whole: bool) -> str | None:
    """Return why the program would refuse a command line, without running it; None if it would not."""
    command, words = COMMAND, shlex.split(line)[1:]
    while getattr(command, "commands", None) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    if getattr(command, "commands", None):
        options = {name for p in command.params for name in p.opts} | {"--help", "-h"}
        return next((f"there is no option {word}" for word in words if word not in options), None)
    words = [word for word in words if word not in ("--help", "-h")]
    try:
        command.make_context("stop", words)
    except TyperException as error:
        if whole or type(error).__name__ not in CUT_SHORT:
            return error.format_message()
    return None
