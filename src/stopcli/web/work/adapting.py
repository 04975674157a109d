"""Fine-tuning as a process of its own: it outlives the page and the server, and the disk tells of it."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stopcli.errors import OutputBusy, StopError, UsageError
from stopcli.fileio import alone, append_line, read_json, to_json, write_text
from stopcli.model.config import CONFIG_FILE
from stopcli.train.run_folder import CURVE_FILE, METRICS_FILE, PREDICTIONS_FILE, STATE_FILE

ENOUGH, FEW = 16, 2  # clips of a label: from here on more gain little; fewer cannot be trained on
STARTING = 120.0  # seconds after which a process without its lock has died
ROOT = str(Path(__file__).parents[3])
# nothing is imported from the current folder; an interrupt works also where the server is in the background
START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "sys.path[:] = [sys.argv.pop(1), *(p for p in sys.path if p)]; "
    "from stopcli.__main__ import run; run()"
)
MOST_LOG = 1 << 20  # bytes of the end of a log that are read


@dataclass(frozen=True)
class Advice:
    """What labels there are to learn from, and how many more are worth giving."""

    counts: dict[str, int]
    ready: bool
    more: int
    words: str


@dataclass
class Run:
    """One training, as the disk knows it."""

    name: str
    folder: str
    state: str  # running, stopped, failed, finished
    base: str = ""
    step: int = 0
    steps: int = 0
    loss: list[tuple[int, float]] = field(default_factory=list)
    score: list[tuple[int, float]] = field(default_factory=list)
    words: str = ""
    result: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what the page shows."""
        return asdict(self)


def advise(counts: dict[str, int]) -> Advice:
    """Say whether these labels can be learnt, and how many more clips of them are worth labelling."""
    few = sorted(label for label, count in counts.items() if count < FEW)
    more = sum(max(0, ENOUGH - count) for count in counts.values())
    if len(counts) < 2:
        return Advice(counts, False, max(more, ENOUGH), "label clips of at least two labels first")
    if few:
        return Advice(counts, False, more, f"{few[0]!r} needs at least {FEW} clips")
    least = min(counts, key=lambda label: counts[label])
    if not more:
        return Advice(counts, True, 0, f"every label has {ENOUGH} clips: more of them gain little")
    return Advice(
        counts, True, more, f"{more} more are worth labelling, {least!r} first; {ENOUGH} each do well"
    )


class Adapting:
    """The trainings from one table of labels: their models lie beside it."""

    def __init__(self, table: Path) -> None:
        self.table = table
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def runs(self) -> list[Run]:
        """Return all trainings, the last one first."""
        names = [
            p.name[1 : -len(".run.json")]
            for p in self.table.parent.glob(f".{self.table.stem}-model*.run.json")
        ]
        return [self.read(name) for name in sorted(names, key=_number, reverse=True)]

    def start(self, base: str, options: Sequence[str] = ()) -> Run:
        """Begin a training of the table as it is now; raises UsageError if one is running."""
        if any(run.state == "running" for run in self.runs()):
            raise UsageError("a training is running already; wait for it, or stop it")
        number = 1
        while True:
            name = f"{self.table.stem}-model" + (f"-{number}" if number > 1 else "")
            if not os.path.lexists(self._folder(name)) and not self._file(name, "run.json").exists():
                break
            number += 1
        return self._spawn(name, base, [*options])

    def resume(self, name: str) -> Run:
        """Go on with a training that was stopped; raises UsageError if it is not there, or is running."""
        run, how = self.read(name), read_json(self._file(name, "run.json"), 1 << 20)
        if run.state == "running":
            raise UsageError(f"{name}: is running already")
        return self._spawn(
            name, run.base, [o for o in map(str, how["options"]) if o != "--resume"], resume=True
        )

    def stop(self, name: str) -> None:
        """Interrupt a training; what was learnt is kept. Raises UsageError if it does not run."""
        run = self.read(name)
        pid = self._pid(name)
        if run.state != "running" or pid is None or not self._is_ours(pid, name):
            raise UsageError(f"{name}: is not running")
        os.kill(pid, signal.SIGINT)

    def read(self, name: str) -> Run:
        """Return what the disk says of a training; raises UsageError if there is none of that name."""
        file = self._file(name, "run.json")
        if not re.fullmatch(re.escape(self.table.stem) + r"-model(-\d{1,6})?", name) or not file.is_file():
            raise UsageError("no such training")
        how = read_json(file, 1 << 20)
        folder = self._folder(name)
        run = Run(name, str(folder), "stopped", str(how.get("base", "")))
        _read_metrics(folder / METRICS_FILE, run)
        log = _end_of(self._file(name, "log"))
        if (found := re.findall(r"steps: (\d+) of", log)) != []:
            run.steps = int(found[-1])
        lines = [line for line in log.splitlines() if line.strip()]
        run.words = lines[-1] if lines else ""
        report = _last_json(_end_of(self._file(name, "out")))
        if self._alive(name, float(how.get("began", 0))):
            run.state = "running"
        elif report.get("data"):
            run.state, run.result = "finished", report["data"][0]
        elif (folder / STATE_FILE).exists() or "interrupted" in log[-400:]:
            run.state = "stopped"
        else:
            run.state = "failed"
            run.words = next((str(e["message"]) for e in report.get("errors", [])), run.words)
        return run

    def mistakes(self, name: str) -> list[dict[str, str]]:
        """Return the held-out clips that a trained model takes for something else, the surest first."""
        self.read(name)
        file = self._folder(name) / PREDICTIONS_FILE
        if not file.is_file():
            return []
        with file.open(encoding="utf-8", newline="") as stream:
            return [row for row in csv.DictReader(stream) if row["label"] != row["predicted"]]

    def curve(self, name: str) -> Path:
        """Return the picture of a training's curve."""
        self.read(name)
        return self._folder(name) / CURVE_FILE

    def usable(self, name: str) -> Path:
        """Return the model folder of a training; raises UsageError if no model is there yet."""
        self.read(name)
        folder = self._folder(name)
        if not (folder / CONFIG_FILE).is_file():
            raise UsageError(f"{name}: there is no model yet")
        return folder

    def _folder(self, name: str) -> Path:
        return self.table.parent / name

    def _file(self, name: str, kind: str) -> Path:
        return self.table.parent / f".{name}.{kind}"

    def _spawn(self, name: str, base: str, options: list[str], *, resume: bool = False) -> Run:
        settings = ["--model", base, *options, "--format", "json", *(["--resume"] if resume else [])]
        command = ["finetune", str(self.table), "-o", str(self._folder(name)), *settings]
        log = self._file(name, "log")
        append_line(log, f"$ stop {' '.join(command)}")
        with log.open("ab") as told, self._file(name, "out").open("wb") as out:
            child = subprocess.Popen(
                [sys.executable, "-c", START, ROOT, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=told,
                start_new_session=True,
            )
        self._children[name] = child
        record = {"pid": child.pid, "began": time.time(), "base": base, "options": options}
        write_text(self._file(name, "run.json"), to_json(record))
        return self.read(name)

    def _pid(self, name: str) -> int | None:
        with suppress(ValueError, OSError, KeyError, TypeError):
            return int(read_json(self._file(name, "run.json"), 1 << 20)["pid"])
        return None

    def _alive(self, name: str, began: float) -> bool:
        """Say whether a training runs: it holds the lock of its folder, or is about to take it."""
        child = self._children.get(name)
        if child is not None:
            return child.poll() is None
        try:
            with alone(self._folder(name)):
                pass
        except OutputBusy:
            return True
        except StopError:
            return False
        pid = self._pid(name)
        return pid is not None and time.time() - began < STARTING and self._is_ours(pid, name)

    def _is_ours(self, pid: int, name: str) -> bool:
        """Say whether a process is the training, not another one that got its number since."""
        child = self._children.get(name)
        if child is not None and child.pid == pid:
            return child.poll() is None
        with suppress(OSError):
            return os.fsencode(self._folder(name)) in Path(f"/proc/{pid}/cmdline").read_bytes()
        with suppress(OSError):  # where there is no /proc
            os.kill(pid, 0)
            return True
        return False


def _number(name: str) -> int:
    end = name.rpartition("-")[2]
    return int(end) if end.isdecimal() else 1


def _read_metrics(file: Path, run: Run) -> None:
    """Add what a run has measured so far; a line that is being written is left out."""
    with suppress(OSError):
        for line in file.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                record = json.loads(line)
                run.step = max(run.step, int(record["step"]))
                if "loss" in record:
                    run.loss.append((record["step"], float(record["loss"])))
                if "validation" in record:
                    run.score.append((record["step"], float(record["validation"]["top-1"])))


def _end_of(file: Path) -> str:
    with suppress(OSError), file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - MOST_LOG))
        return stream.read().decode(errors="replace")
    return ""


def _last_json(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(text)
        return found if isinstance(found, dict) else {}
    return {}
