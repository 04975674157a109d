"""Hostile inputs by the thousand: ``python tests/fuzz.py [--videos 2000] [--others 500] [--seed 0]``.

Good files are damaged at random, by a seed: films of seven containers, tables, ``config.json``, weights, index
files. Whatever comes of them must be a result or one of the program's own errors, in bounded time and memory. What
is neither is kept in --keep and printed; the exit status counts it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from conftest import write_model, write_video
from stopcli.data.table import read_dataset
from stopcli.errors import StopError
from stopcli.hub.registry import resolve
from stopcli.index.maintenance import check
from stopcli.index.store import DATABASE, Index
from stopcli.index.types import FileRecord, NewEntry, Space
from stopcli.model.config import StopConfig
from stopcli.model.loading import load_model
from stopcli.video.workers import pool

SECONDS = 120.0  # for one input: several times the patience with a worker
MEMORY = 1 << 30  # bytes for the worker that decodes one
FILMS = {
    "a.mp4": {"codec": "libx264", "options": {"bf": "2"}},
    "b.mkv": {"codec": "libx264", "options": {"bf": "2"}},
    "c.avi": {"codec": "mpeg4", "options": {}},
    "d.ts": {"codec": "mpeg2video", "options": {}},
    "e.webm": {"codec": "libvpx", "options": {}},
    "f.flv": {"codec": "flv1", "options": {}},
    "g.mov": {"codec": "mjpeg", "options": {}, "pix_fmt": "yuvj420p"},
}
TABLE = 'path,label,start,end,split\na.mp4,"a dog, running",0.5,1:00,train\nb.mkv,a cat,,,val\nc.avi,a bird,0,1,test\n'
NASTY = (
    *(
        None,
        True,
        -1,
        0,
        10**9,
        10**30,
        -0.5,
        1e308,
        "",
        "x" * 10_000,
        "../../../etc/passwd",
        "file:../x",
        "hf:../..@..",
    ),
    *("\x1b[31m", "\ud800", [], {}, [[[[]]]], {"a": {"a": {}}}, [0] * 10_000, "file:w.bin", "hf:a/b@../c"),
)


@dataclass
class Score:
    """What came of one kind of input."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  # of the slowest
    memory: int = 0  # bytes, at most


def damaged(rng: np.random.Generator, data: bytes, head: int) -> bytes:
    """Damage bytes in one to eight ways, most of them in the first ``head``."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        if not out:
            break
        end = len(out) if rng.random() < 0.3 else min(head, len(out))
        at = int(rng.integers(0, end))
        count = int(rng.integers(1, 9))
        how = rng.integers(0, 6)
        if how == 0:
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif how == 1:
            out[at : at + count] = rng.bytes(count)
        elif how == 2:
            out[at : at + 4] = int(rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000])).to_bytes(4, "big")
        elif how == 3:
            del out[at : at + count * int(rng.choice([1, 100]))]
        elif how == 4:
            out[at:at] = out[at : at + count * int(rng.choice([1, 100]))]
        else:
            del out[int(rng.integers(0, len(out))) :]
    return bytes(out)


def spoilt(rng: np.random.Generator, value: object) -> object:
    """Put something nasty into a random place of what JSON holds."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = str(rng.choice(list(value)))
        return {**value, key: spoilt(rng, value[key])}
    return NASTY[int(rng.integers(0, len(NASTY)))]


class Fuzz:
    """Good files in a folder, and what becomes of damaged copies."""

    def __init__(self, folder: Path, seed: int, keep: Path | None = None) -> None:
        self.folder, self.seed, self.keep = folder, seed, keep
        self.faults: list[str] = []
        for name, how in FILMS.items():
            write_video(folder / name, frames=24, fps=12, size=(96, 64), **how)
        self.model = write_model(folder / "model", stop=StopConfig(regions=0.25, eta=2, hidden=16))
        with Index(folder / "index") as index, index.writing():
            space = index.database.make_space(Space("toy", "w" * 64, "fp32", 4, 8.0, 4))
            for i in range(30):
                entry = NewEntry(f"c{i}", 8.0, np.eye(1, 4, dtype=np.float32), (i,) if i % 3 else None)
                space = index.add(space, [entry], {}, {Path(f"/v/{i}.mp4"): FileRecord(i, 1, f"c{i}")})
        self.kinds: dict[str, Callable[[np.random.Generator, Path], None]] = {
            "videos": self.video,
            "tables": self.table,
            "config.json": self.config,
            "weights": self.weights,
            "index": self.index,
        }

    def video(self, rng: np.random.Generator, place: Path) -> None:
        name = str(rng.choice(list(FILMS)))
        (place / name).write_bytes(damaged(rng, (self.folder / name).read_bytes(), 2000))
        if rng.random() < 0.5:
            pool.read_frames(place / name, 4, 32, threads=1)
        else:
            list(pool.read_windows(place / name, 2, 32, 0.5, threads=1))

    def table(self, rng: np.random.Generator, place: Path) -> None:
        for name in FILMS:
            (place / name).write_bytes(b"film")
        data = place / ("data.csv" if rng.random() < 0.7 else "data.jsonl")
        good = TABLE if data.suffix == ".csv" else '{"path": "a.mp4", "caption": "a dog"}\n' * 3
        data.write_bytes(damaged(rng, good.encode(), len(good)))
        read_dataset(data)

    def config(self, rng: np.random.Generator, place: Path) -> None:
        for file in self.model.iterdir():
            (place / file.name).symlink_to(file)
        good = (self.model / "config.json").read_bytes()
        (place / "config.json").unlink()
        if rng.random() < 0.8:
            good = json.dumps(spoilt(rng, json.loads(good))).encode()
        else:
            good = damaged(rng, good, len(good))
        (place / "config.json").write_bytes(good)
        load_model(resolve(str(place), offline=True))

    def weights(self, rng: np.random.Generator, place: Path) -> None:
        shutil.copytree(self.model, place, dirs_exist_ok=True)
        file = place / str(rng.choice(["model.safetensors", "backbone.safetensors"]))
        file.write_bytes(damaged(rng, file.read_bytes(), 600))
        load_model(resolve(str(place), offline=True))

    def index(self, rng: np.random.Generator, place: Path) -> None:
        shutil.copytree(self.folder / "index", place, dirs_exist_ok=True)
        file = place / str(rng.choice([DATABASE, DATABASE, "vectors-1.f32"]))
        file.write_bytes(damaged(rng, file.read_bytes(), 12_000))
        with Index(place) as index:
            index.snapshot({f"c{i}" for i in range(30)}, "w" * 64, "fp32", 4, 8.0)
        if check(place, repair=True).problems:
            assert not check(place).problems, "repaired, and still broken"

    def run(self, kind: str, count: int) -> Score:
        """Try so many inputs of a kind."""
        score = Score()
        for number in range(count):
            rng = np.random.default_rng([self.seed, list(self.kinds).index(kind), number])
            with tempfile.TemporaryDirectory() as place:
                outcome, seconds = self._try(kind, number, rng, Path(place))
            score.outcomes[outcome] += 1
            score.seconds = max(score.seconds, seconds)
            score.memory = max(score.memory, _peak_memory())
        return score

    def _try(self, kind: str, number: int, rng: np.random.Generator, place: Path) -> tuple[str, float]:
        began, fault = time.monotonic(), None
        try:
            self.kinds[kind](rng, place)
            outcome = "read"
        except StopError as error:
            contained = "crashed" in str(error) or "no sign of life" in str(error)
            outcome = "contained" if contained else "refused"
            if len(str(error)) > 2000:
                fault = f"an error of {len(str(error))} characters: {str(error)[:200]!r}"
        except Exception as error:
            outcome, fault = "CRASHED", f"{type(error).__name__}: {str(error)[:300]}"
        seconds = time.monotonic() - began
        if seconds > SECONDS:
            outcome, fault = "TOO SLOW", f"{seconds:.0f} s"
        if fault:
            self.faults.append(f"{kind} {number}: {fault}")
            if self.keep is not None:
                shutil.copytree(place, self.keep / f"{kind}-{self.seed}-{number}", dirs_exist_ok=True)
        return outcome, seconds


def _peak_memory() -> int:
    """Return the most that a worker has taken, bytes; 0 where nothing tells."""
    peaks = [0]
    for worker in list(pool._workers):
        status = Path(f"/proc/{worker.process.pid}/status")
        if status.exists():
            lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            peaks += [1024 * int(line.split()[1]) for line in lines]
    return max(peaks)


def main() -> int:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--others", type=int, default=500, help="of each other kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for what should not have happened")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder), args.seed, args.keep)
        for kind in fuzz.kinds:
            score = fuzz.run(kind, args.videos if kind == "videos" else args.others)
            memory = f", {score.memory >> 20} MB" if kind == "videos" else ""
            print(kind, dict(score.outcomes), f"slowest {score.seconds:.1f} s{memory}", flush=True)
    print(*fuzz.faults, sep="\n")
    return len(fuzz.faults)


if __name__ == "__main__":
    sys.exit(min(main(), 100))
