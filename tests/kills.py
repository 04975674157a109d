"""Processes killed at random: ``python tests/kills.py [--kills 50] [--seed 0] [embed|index|finetune|pull ...]``.

Each command is started again and again on the same output and killed (SIGKILL) after a random time. After each
kill, what lies there must be usable or absent; in the end one run is let through, and must give what a run that
nobody disturbed gives.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from conftest import write_model, write_video
from hub_server import Hub, serve
from labelled_clips import write_labelled
from stopcli.hub.registry import resolve
from stopcli.index.maintenance import problems
from stopcli.index.store import DATABASE, Index
from stopcli.model.config import StopConfig
from stopcli.model.loading import load_model
from stopcli.tasks.vectorfile import load
from stopcli.train.run_folder import RunFolder

STOP = StopConfig(regions=0.25, eta=2, hidden=16)


class Kills:
    """A folder with a model and clips, and commands over it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.environment = {
            **os.environ,
            "STOPCLI_HOME": str(folder / "home"),
            "HF_HOME": str(folder / "hf"),
            "OMP_NUM_THREADS": "1",
        }
        self.model = write_model(folder / "model", stop=STOP)
        clips = folder / "clips"
        clips.mkdir()
        for i in range(40):
            write_video(clips / f"{i:02d}.mp4", frames=40 + i, options={"preset": "ultrafast"})
        self.labelled = folder / "labelled"
        self.labelled.mkdir()
        write_labelled(self.labelled)

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "stopcli", *map(str, arguments)]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=self.environment, **silent)  # type: ignore[call-overload, no-any-return]

    def through(self, *arguments: object) -> float:
        """Let a command through; return how long it took."""
        began = time.monotonic()
        process = self.start(*arguments)
        _, err = process.communicate()
        assert process.returncode == 0, err.decode()
        return time.monotonic() - began

    def kill(self, count: int, seconds: float, usable: Callable[[], object], *arguments: object) -> int:
        """Kill a command so often; return how often it was faster."""
        finished = 0
        for _ in range(count):
            process = self.start(*arguments)
            try:
                process.wait(self.random.uniform(0.3, 1.0) * seconds)
                finished += 1
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
            usable()
        return finished

    def embed(self, count: int) -> str:
        whole, out = self.folder / "whole.npy", self.folder / "out.npy"
        command = ("embed", self.folder / "clips", "-m", self.model, "--batch-size", 1, "-o")
        seconds = self.through(*command, whole)

        def spoil() -> None:  # so that there is work to do each time
            for path in self.random.sample(sorted((self.folder / "clips").glob("*.mp4")), 10):
                os.utime(path)

        finished = self.kill(count, seconds, spoil, *command, out)
        self.through(*command, out)
        a, b = load(whole), load(out)
        assert {r.path for r in a.rows} == {r.path for r in b.rows}
        mine = {r.path: v for r, v in zip(a.rows, a.matrix(), strict=True)}
        assert all(np.array_equal(mine[r.path], v) for r, v in zip(b.rows, b.matrix(), strict=True))
        return f"{finished} finished before the kill; {len(b.rows)} rows, bit for bit"

    def index(self, count: int) -> str:
        whole, out = self.folder / "whole-index", self.folder / "out-index"
        command = (
            "index",
            "update",
            self.folder / "clips",
            "-m",
            self.model,
            "--window",
            0.5,
            "--batch-size",
            1,
        )
        seconds = self.through(*command, "--index", whole)

        def usable() -> None:
            if (out / DATABASE).exists():
                with Index(out) as index:
                    assert problems(index) == []
                    done = len(index.database.files()) == 40
                if done:
                    shutil.rmtree(out)  # so that there is work to do

        finished = self.kill(count, seconds, usable, *command, "--index", out)
        self.through(*command, "--index", out)
        found = []
        for folder in (whole, out):
            with Index(folder) as index:
                (space,) = index.database.spaces()
                vectors = index.vectors(space)
                entries = index.database.entries(space)
                found.append({c: vectors[e.first : e.first + e.count].tobytes() for c, e in entries.items()})
        assert found[0] == found[1]
        return f"{finished} finished before the kill; {len(found[1])} contents, bit for bit"

    def finetune(self, count: int) -> str:
        whole, out = self.folder / "whole-model", self.folder / "out-model"
        command = ("finetune", self.labelled / "data.csv", "-m", self.model, "--epochs", 30, "--resume", "-o")
        seconds = self.through(*command, whole)

        def usable() -> None:
            if (out / "model.safetensors").exists() and (out / "config.json").exists():
                load_model(resolve(str(out)))
            if RunFolder(out).finished:
                shutil.rmtree(out)

        finished = self.kill(count, seconds, usable, *command, out)
        self.through(*command, out)
        same = [(f / "model.safetensors").read_bytes() for f in (whole, out)]
        assert same[0] == same[1]
        return f"{finished} finished before the kill; the weights are the same, bit for bit"

    def pull(self, count: int) -> str:
        files = {p.name: p.read_bytes() for p in self.model.iterdir()}
        with serve(Hub(files, drip=0.0)) as hub:
            self.environment["HF_ENDPOINT"] = hub.endpoint
            command = ("models", "pull", "hf:someone/model")
            seconds = self.through(*command)
            finished = 0
            for _ in range(count):
                for blob in (self.folder / "hf").rglob("blobs/*"):  # all must be fetched anew
                    if self.random.random() < 0.5:
                        blob.unlink()
                hub.flip = self.random.random() < 0.3  # what arrives in the killed run may be anything
                finished += self.kill(1, seconds, lambda: None, *command)
                hub.flip = False
            self.through(*command)
            done = self.start("models", "info", "hf:someone/model", "--format", "json")
            assert done.wait() == 0
        for name, data in files.items():
            (file,) = (self.folder / "hf").rglob(f"snapshots/*/{name}")
            assert file.read_bytes() == data, name
        return f"{finished} finished before the kill; all files are what the Hub has"


def main() -> None:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=["embed", "index", "finetune", "pull", []], default=[])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kills = Kills(Path(folder), args.seed)
        for name in args.what or ("embed", "index", "finetune", "pull"):
            print(f"{name}: {args.kills} kills: {getattr(kills, name)(args.kills)}", flush=True)


if __name__ == "__main__":
    main()
