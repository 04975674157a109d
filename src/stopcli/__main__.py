"""``python -m stopcli`` and the command ``stop``: Ctrl-C ends well even while Python still imports."""

import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line of the process, and end it."""
    if "OMP_WAIT_POLICY" not in os.environ:  # else torch's threads spin, and crawl beside a busy program
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    ended: list[int] = []

    def end(number: int, _: object) -> None:  # what was begun is put away, as after Ctrl-C
        ended.append(number)
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)
    for place, name in enumerate(("stdin", "stdout", "stderr")):  # closed, as some schedulers have them
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if place == 0 else "w"))  # noqa: PTH123, SIM115
    try:
        from stopcli.cli.app import main

        status = main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    if status == 130 and ended:  # native code knows no ending but Ctrl-C
        status = 128 + ended[0]
    if "torch" in sys.modules:
        _end(status)
    sys.exit(status)


def _end(status: int) -> NoReturn:
    """End the process at once: Python would take torch apart first, for half a second."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
