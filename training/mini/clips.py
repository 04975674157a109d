"""Render the sets of clips to H.264 files: ``python clips.py DATA [--train N] [--test N]``.

DATA/stills, DATA/spin, DATA/train, DATA/varied, DATA/test and DATA/retrieval, each with 000000.mp4 ...; which file shows what is given by the
seeds in ``world.py``, so no list is kept. Files that are there already are left alone.
"""

from __future__ import annotations

import argparse
import os
from multiprocessing import Pool
from pathlib import Path

from world import (
    CLIPS,
    SPIN,
    STILLS,
    VARIED,
    Clip,
    load_sprites,
    render,
    retrieval_clips,
    test_clips,
    train_clips,
    write,
)

STILLS_SEED, TEST_SEED, RETRIEVAL_SEED, TRAIN_SEED, VARIED_SEED = 1, 2, 3, 4, 5
_sprites = None


def _make(job: tuple[Clip, Path]) -> None:
    global _sprites
    clip, path = job
    if path.exists():
        return
    _sprites = _sprites or load_sprites()
    frames, fmt = render(clip, _sprites)
    part = path.with_suffix(".part.mp4")
    write(frames, fmt, part)
    part.replace(path)


def files(folder: Path, clips: list[Clip]) -> list[Path]:
    return [folder / f"{i:06d}.mp4" for i in range(len(clips))]


def make(folder: Path, clips: list[Clip], workers: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = files(folder, clips)
    with Pool(workers) as pool:
        for i, _ in enumerate(pool.imap(_make, zip(clips, paths, strict=True), chunksize=16), 1):
            if i % 1000 == 0:
                print(f"{folder.name}: {i} of {len(clips)} clips", flush=True)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", type=int, default=10000)
    parser.add_argument(
        "--stills", type=int, default=14000, help="clips whose frames the backbone learns from"
    )
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--varied", type=int, default=8000, help="clips on bolder backgrounds too")
    args = parser.parse_args()
    make(args.data / "test", list(test_clips(args.test, TEST_SEED)), args.workers)
    make(args.data / "retrieval", list(retrieval_clips(200, RETRIEVAL_SEED)), args.workers)
    make(args.data / "varied", list(train_clips(args.varied, VARIED_SEED, VARIED)), args.workers)
    make(args.data / "train", list(train_clips(args.train, TRAIN_SEED, CLIPS)), args.workers)
    make(args.data / "spin", list(train_clips(args.train, TRAIN_SEED, SPIN)), args.workers)
    make(args.data / "stills", list(train_clips(args.stills, STILLS_SEED, STILLS)), args.workers)
