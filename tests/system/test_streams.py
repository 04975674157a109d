"""What a process is started with: signals that are ignored, streams that are closed, readers that go away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STOP = [sys.executable, "-m", "stopcli"]
posix = pytest.mark.skipif(os.name == "nt", reason="signals and descriptors of POSIX")


@posix
@pytest.mark.parametrize(("ignored", "status"), [(True, 3), (False, 129)])
def test_a_signal_that_nohup_ignores_stays_ignored(ignored, status):
    def begin():
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    command = [*STOP, "classify", "-m", "mini", "--files-from", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=begin
    ) as process:
        for _ in range(600):  # until it waits for names, with its handlers in place
            time.sleep(0.1)
            if "pipe" in Path(f"/proc/{process.pid}/wchan").read_text():
                break
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        _, said = process.communicate(b"none.mp4\n" if ignored else None, timeout=120)
    assert process.returncode == status, said


@posix
@pytest.mark.parametrize(
    ("words", "closed", "status"),
    [
        ("models list", ">&-", 0),
        ("models list --format json", ">&-", 0),
        ("models list", "2>&-", 0),
        ("classify --files-from -", "<&-", 2),
        ("models list", "| true", 0),
        ("models list --format json", "| true", 0),
    ],
)
def test_a_stream_that_is_closed_is_no_fault(words, closed, status):
    line = f"set -o pipefail; {' '.join(STOP)} {words} {closed}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, done.stderr
    assert "should not have happened" not in done.stderr
    assert "Traceback" not in done.stderr
