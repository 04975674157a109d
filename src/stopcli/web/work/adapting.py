"""Fine-tuning as a process of its own: it outlives the page and the server, and the disk tells of it."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stopcli.data.table import read_dataset
from stopcli.data.tablefile import KEPT
from stopcli.errors import UsageError
from stopcli.fileio import append_line, is_file, open_own, read_json, to_json, write_text
from stopcli.model.config import CONFIG_FILE
from stopcli.tasks.labelling.rows import Labelled, is_none
from stopcli.train.run_folder import METRICS_FILE, PREDICTIONS_FILE, STATE_FILE
from stopcli.video.discovery import as_spelled

ENOUGH, FEW = 16, 2  # clips of a label: from here on more gain little; fewer cannot be trained on
RECORD = ".run.json"  # ends the name of the file that tells of a run
ROOT = str(Path(__file__).parents[3])
# nothing is imported from the current folder; an interrupt works also where the server is in the background
START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "sys.path[:] = [sys.argv.pop(1), *(p for p in sys.path if p)]; "
    "from stopcli.__main__ import run; run()"
)
OPTIONS = {
    "--epochs": re.compile(r"\d{1,4}"),
    "--seed": re.compile(r"\d{1,10}"),
    "--device": re.compile(r"[a-z0-9:]+"),
}
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
    wanted = [label for label in counts if not is_none(label)] or list(counts)  # of the rest, there is enough
    more = sum(max(0, ENOUGH - counts[label]) for label in wanted)
    if len(counts) < 2:
        return Advice(counts, False, max(more, ENOUGH), "label clips of at least two labels first")
    if few:
        return Advice(counts, False, more, f"{few[0]!r} needs at least {FEW} clips")
    least = min(wanted, key=lambda label: counts[label])
    if not more:
        return Advice(counts, True, 0, f"every label has {ENOUGH} clips: more of them gain little")
    return Advice(
        counts, True, more, f"{more} more are worth labelling, {least!r} first; {ENOUGH} each do well"
    )


def require_clips(rows: Sequence[Labelled]) -> int:
    """Return how many labelled clips are gone; raises UsageError if what is left cannot be learned."""
    counts = Counter(row.label for row in rows)
    if not (advice := advise(counts)).ready:
        raise UsageError(advice.words)
    gone = [row for row in rows if not is_file(as_spelled(row.path))]
    lost = Counter(row.label for row in gone)
    left = counts - lost
    advice = advise(left)
    if gone and not (advice.ready and left.keys() == counts.keys()):
        label = next((name for name in lost if left[name] < FEW), gone[0].label)
        first = next(row.path.name for row in gone if row.label == label)
        found = f"{lost[label]} of {counts[label]} clips of {label!r} are gone, such as {first}"
        raise UsageError(f"{found}; bring them back, or take their rows out of the table")
    return len(gone)


class Adapting:
    """The trainings from one table of labels: their models lie beside it."""

    def __init__(self, table: Path) -> None:
        self.table = table
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.RLock()
        self._names = re.compile(re.escape(table.stem) + r"-model(-\d{1,6})?")
        self._over: dict[str, tuple[float, Run]] = {}  # of runs that are over: when that was written

    def runs(self) -> list[Run]:
        """Return all trainings, the last one first."""
        with suppress(OSError):
            found = [n[1 : -len(RECORD)] for n in os.listdir(self.table.parent) if n.endswith(RECORD)]  # noqa: PTH208
            names = [n for n in found if self._names.fullmatch(n) and self._file(n, "run.json").is_file()]
            return [self.read(name) for name in sorted(names, key=_number, reverse=True)]
        return []

    def start(self, base: str, options: Sequence[str] = ()) -> Run:
        """Begin a training of the table as it is now; raises UsageError if one is running."""
        with self._lock:
            if self.running:
                raise UsageError("a training is running already; wait for it, or stop it")
            number = 1
            while True:
                name = f"{self.table.stem}-model" + (f"-{number}" if number > 1 else "")
                files = [self._file(name, kind) for kind in ("run.json", "log", "out")]
                if not any(map(os.path.lexists, [self._folder(name), *files])):
                    break
                number += 1
            return self._spawn(name, base, [*options])

    @property
    def running(self) -> bool:
        """Whether a training runs."""
        return any(run.state == "running" for run in self.runs())

    def resume(self, name: str) -> Run:
        """Go on with a training that was stopped; raises UsageError if it is not there, or one is running."""
        with self._lock:
            run = self.read(name)
            if self.running:
                raise UsageError("a training is running already; wait for it, or stop it")
            return self._spawn(name, run.base, _known_options(self._record(name).get("options")), resume=True)

    def stop(self, name: str) -> None:
        """Interrupt a training; what was learnt is kept. Raises UsageError if it does not run."""
        if self.read(name).state != "running":
            raise UsageError(f"{name}: is not running")
        with suppress(ProcessLookupError):
            os.kill(int(self._record(name)["pid"]), signal.SIGINT)

    def read(self, name: str) -> Run:
        """Return what the disk says of a training; raises UsageError if there is none of that name."""
        file = self._file(name, "run.json")
        if not self._names.fullmatch(name) or not file.is_file():
            raise UsageError("no such training")
        record = self._record(name)
        written = file.stat().st_mtime
        known = self._over.get(name)
        if known is not None and known[0] == written:
            return known[1]
        folder = self._folder(name)
        run = Run(name, str(folder), "stopped", str(record.get("base", "")))
        alive = self._alive(name, record)  # asked first: what it wrote at its end is then there
        _read_metrics(folder / METRICS_FILE, run)
        log = _end_of(self._file(name, "log"))
        if (found := re.findall(r"steps: (\d+) of", log)) != []:
            run.steps = int(found[-1])
        lines = [line for line in log.splitlines() if line.strip()]
        run.words = lines[-1] if lines else ""
        report = _last_json(_end_of(self._file(name, "out")))
        if alive:
            run.state = "running"
            return run
        data, errors = _dicts(report.get("data")), _dicts(report.get("errors"))
        if data:
            run.state, run.result = "finished", data[0]
        elif not _can_go_on(folder, run, log, errors):
            run.state = "failed"
            run.words = next((str(e["message"]) for e in errors if "message" in e), run.words)
        self._over[name] = written, run
        return run

    def _record(self, name: str) -> dict[str, Any]:
        with suppress(ValueError, OSError):
            found = read_json(self._file(name, "run.json"), 1 << 20)
            return found if isinstance(found, dict) else {}
        return {}

    def held_out(self, name: str) -> list[dict[str, str]]:
        """Return the clips that judged a trained model, the surest of its mistakes first."""
        self.read(name)
        file = self._folder(name) / PREDICTIONS_FILE
        if not file.is_file():
            return []
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return [row | {name: KEPT.sub("", row[name]) for name in ("label", "predicted")} for row in rows]

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
        faults = read_dataset(self.table).problems
        skip = ["--skip-bad"] if faults and all(fault.absent for fault in faults) else []
        settings = ["--model", base, *options, *skip, "--format", "json", *(["--resume"] if resume else [])]
        command = ["finetune", str(self.table), "-o", str(self._folder(name)), *settings]
        log = self._file(name, "log")
        append_line(log, f"$ stop {' '.join(command)}")
        with open_own(log, "ab") as messages, open_own(self._file(name, "out"), "wb") as out:
            child = subprocess.Popen(
                [sys.executable, "-c", START, ROOT, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=messages,
                start_new_session=True,
            )
        self._children[name] = child
        record = {"pid": child.pid, "began": time.time(), "base": base, "options": options}
        write_text(self._file(name, "run.json"), to_json(record))
        return self.read(name)

    def _alive(self, name: str, record: dict[str, Any]) -> bool:
        """Say whether a training runs: its own process, not another one that got its number since."""
        pid, child = record.get("pid"), self._children.get(name)
        if not isinstance(pid, int) or pid <= 0:
            return False
        if child is not None and child.pid == pid:
            return child.poll() is None
        command = _command_of(pid)
        return b" finetune " in command and os.fsencode(self._folder(name)) in command


def _command_of(pid: int) -> bytes:
    """Return the command line of a process; nothing if it is gone, or no one can tell."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    if not Path("/proc/self").exists():
        with suppress(OSError, subprocess.SubprocessError):
            asked = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
            return subprocess.run(asked, capture_output=True, check=True, timeout=10).stdout
    return b""


def _known_options(given: object) -> list[str]:
    """Return those options of a record that the page gives: others were put there by somebody else."""
    words = [str(word) for word in given] if isinstance(given, list) else []
    pairs = zip(words[::2], words[1::2], strict=False)
    return [w for pair in pairs if pair[0] in OPTIONS and OPTIONS[pair[0]].fullmatch(pair[1]) for w in pair]


def _can_go_on(folder: Path, run: Run, log: str, errors: list[dict[str, Any]]) -> bool:
    """Say whether a training that ended early can be resumed; without a state, it starts over."""
    killed = run.step > 0 and not errors
    return killed or (folder / STATE_FILE).exists() or "interrupted" in log[-400:]


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


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
                if "loss" in record and math.isfinite(record["loss"]):
                    run.loss.append((record["step"], float(record["loss"])))
                if "validation" in record:
                    run.score.append((record["step"], float(record["validation"]["top-1"])))


def _end_of(file: Path) -> str:
    with suppress(OSError), file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - MOST_LOG))
        return stream.read().decode(errors="replace")
    return ""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _last_json(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        found = json.loads(text, parse_constant=_refuse)
        return found if isinstance(found, dict) else {}
    return {}
