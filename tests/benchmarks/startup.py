"""What ``stop --help`` costs over importing Typer and Rich: ``python startup.py``; the two take turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def once(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - begin


def main() -> None:
    base = [sys.executable, "-c", "import typer, rich"]
    for line in ("--help", "classify --help", "retrieve --help", "embed --help", "--version"):
        ours = [sys.executable, "-m", "stopcli", *line.split()]
        once(base), once(ours)
        pairs = [(once(base), once(ours)) for _ in range(9)]
        ratio = statistics.median(b / a for a, b in pairs)
        milliseconds = statistics.median(b for _, b in pairs) * 1000
        print(f"stop {line}: {milliseconds:.0f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
