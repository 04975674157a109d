"""How torch's threads wait for each other: what the command line asks of OpenMP."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = """
import os
from stopcli import __main__ as entry
from stopcli.cli import app

app.main = lambda: print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY")) or 0
entry.run()
"""


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({}, "1000 None"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None"),
        ({"OMP_WAIT_POLICY": "active"}, "None active"),  # GOMP_SPINCOUNT would undo it
    ],
)
def test_threads_soon_sleep_unless_the_user_has_set_how_they_wait(own, found):
    environ = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(command, env=environ | own, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found
