"""What --help shows at 80 columns."""

from __future__ import annotations

import re

import pytest
from test_matrix import FAILURES

GROUPS = ["", "benchmark", "index", "models"]


@pytest.mark.parametrize("command", [*GROUPS, *FAILURES])
def test_help_is_whole_and_speaks_no_python(run, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = run(*command.split(), "--help")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for word in ("list[", "<bool>", "<path>", "Optional", "…"):
        assert word not in out
    assert "..." not in out.replace("DIR...", "").replace("[ARGS]...", "").replace("]...", "").replace(
        "}...", ""
    ).replace(",...", "")


@pytest.mark.parametrize("command", FAILURES)
def test_every_command_shows_an_example(run, command):
    _, out, _ = run(*command.split(), "--help")
    assert f"stop {command}" in out.partition("Examples:")[2]


def test_every_command_has_a_whole_summary(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in [*FAILURES, *filter(None, GROUPS)]:
        group, _, name = words.rpartition(" ")
        _, out, _ = run(*group.split(), "--help")
        assert re.search(rf"│ {name} +[A-Z][^│]*\. *│", out), words  # a sentence that ends on its line


def test_options_are_grouped(run):
    _, out, _ = run("classify", "--help")
    panels = re.findall(r"╭─ (\w+) ", out)
    assert panels == ["Arguments", "Options", "Input", "Model", "Output"] or set(panels) >= {
        "Input",
        "Model",
        "Output",
    }
