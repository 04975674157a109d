"""Tab: the protocol that the shells speak, and a real bash."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest


def complete(words: str, shell: str, folder) -> list[str]:
    """Ask as a shell does; the last word is incomplete."""
    code = "import sys; from stopcli.cli.app import main; sys.exit(main())"
    environment = {"_STOP_COMPLETE": f"complete_{shell}", "HOME": str(folder), "PATH": "/usr/bin:/bin"}
    count = len(words.split(" ")) - 1
    environment |= {"COMP_WORDS": words, "COMP_CWORD": str(count), "_TYPER_COMPLETE_ARGS": words}
    environment |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=folder
    )
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_complete(shell, tmp_path):
    assert any("classify" in word for word in complete("stop clas", shell, tmp_path))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_models_complete(shell, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    found = " ".join(complete("stop models info mi", shell, tmp_path))
    assert "mini" in found
    assert "mine" in found
    assert "vit-b-32" in " ".join(complete("stop classify --model v", shell, tmp_path))


def test_index_folders_complete(tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "index.sqlite").write_text("")
    assert complete("stop index ls --index ar", "bash", tmp_path) == ["archive"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_that_a_shell_wants_is_shown(shell, tmp_path):
    code = "import sys; from stopcli.cli.app import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"_STOP_COMPLETE": f"source_{shell}", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_STOP_COMPLETE" in done.stdout, done.stderr


def test_a_real_bash_completes(tmp_path):
    """Source the script as a user's bash does, and press Tab through the function it defines."""
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    stop = tmp_path / "bin" / "stop"
    stop.parent.mkdir()
    stop.write_text(f'#!/bin/sh\nexec {sys.executable} -m stopcli "$@"\n')
    stop.chmod(0o755)
    script = f"""
export PATH={stop.parent}:$PATH
eval "$(_STOP_COMPLETE=source_bash stop)"
COMP_WORDS=(stop retr)
COMP_CWORD=1
$(complete -p stop | sed 's/.*-F \\([^ ]*\\) .*/\\1/') stop retr stop
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split() == ["retrieve"], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_that_a_shell_would_run_are_not_offered(shell, tmp_path):
    for name in (
        r"x\$(touch pwned)",
        "x;touch pwned",
        "x`id`",
        "x-fine 1.0",
        "xmode\u0300le",
        "x\u009b2J",
        "x\u202e",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    found = " ".join(complete("stop classify --model x", shell, tmp_path))
    assert "fine" in found
    assert "xmode\u0300le" in found
    assert "touch" not in found
    assert not set("\u009b\u202e") & set(found)
    assert "id" not in found.replace("fine", "")
