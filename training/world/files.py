"""Render the sets of clips to H.264 files: ``python -m training.world.files DATA [--train N] [--test N]``.

Makes DATA/stills, train, varied, test-6 and retrieval-6, each with 000000.mp4 and so on. The seeds
say what each file shows, so no list is kept. Files that are there already are left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import TYPE_CHECKING

from stopcli.fileio import replacing
from training.world.clips import Clip, render, retrieval_clips, test_clips, train_clips, write
from training.world.motion import CLIPS, STILLS, VARIED

if TYPE_CHECKING:
    from collections.abc import Callable

STILLS_SEED, TRAIN_SEED, VARIED_SEED = 1, 4, 5
TEST_SEED = 6  # of the clips that are labelled; those that are retrieved have the next one
TRAINING_SETS = {
    "varied": (VARIED_SEED, VARIED),
    "train": (TRAIN_SEED, CLIPS),
    "stills": (STILLS_SEED, STILLS),
}


def _write(job: tuple[Path, Callable]) -> None:
    path, draw = job
    if not path.exists():
        with replacing(path) as part:
            write(*draw(), part)


def write_files(jobs: dict[Path, Callable], workers: int | None = None) -> list[Path]:
    """Write each file of what its function draws (frames and a format), and return the files."""
    with Pool(workers or os.cpu_count()) as pool:
        for done, _ in enumerate(pool.imap(_write, jobs.items(), chunksize=16), 1):
            if done % 1000 == 0:
                print(f"{done} of {len(jobs)} clips", flush=True)
    return list(jobs)


def write_clips(folder: Path, clips: list[Clip], workers: int | None = None) -> list[Path]:
    """Render clips to FOLDER/000000.mp4 and so on, and return the files; end where others lie there."""
    folder.mkdir(parents=True, exist_ok=True)
    mark, shown = folder / ".shown", hashlib.sha256("\n".join(map(repr, clips)).encode()).hexdigest()
    if mark.exists() and mark.read_text() != shown:
        raise SystemExit(f"{folder}: holds other clips, such as those of another --count; delete it first")
    mark.write_text(shown)
    return write_files(
        {folder / f"{i:06d}.mp4": partial(render, clip) for i, clip in enumerate(clips)}, workers
    )


def main() -> None:
    """Render every set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", type=int, default=10000)
    parser.add_argument("--stills", type=int, default=14000, help="clips for the backbone's stills")
    parser.add_argument("--varied", type=int, default=8000, help="clips on bolder backgrounds too")
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    counts = {"varied": args.varied, "train": args.train, "stills": args.stills}
    sets = {
        f"test-{TEST_SEED}": test_clips(args.test, TEST_SEED),
        f"retrieval-{TEST_SEED}": retrieval_clips(200, TEST_SEED + 1),
        **{name: train_clips(counts[name], *TRAINING_SETS[name]) for name in TRAINING_SETS},
    }
    for name, clips in sets.items():
        print(name, flush=True)
        write_clips(args.data / name, list(clips), args.workers)


if __name__ == "__main__":
    main()
