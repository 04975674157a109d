"""Decode the training clips once: ``python cache.py DATA``; makes DATA/train.npy, varied.npy,
spin.npy and stills.npy (N,K,S,S,3) uint8.

Frames come from `stopcli.video`, as they do when the model is used.
"""

from __future__ import annotations

import argparse
import os
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from clips import STILLS_SEED, TRAIN_SEED, VARIED_SEED
from world import CLIPS, SPIN, STILLS, VARIED, Clip, clip_course, file_format, train_clips

from stopcli.video.clips import read_frames

K = 16  # frames kept of a clip; the prompts' training picks one of each two neighbours
S = 96  # pixels


def _read(path: Path) -> np.ndarray:
    return read_frames(path, K, S, threads=1).pixels


def positions(clip: Clip) -> np.ndarray:
    """Return the object's (x, y, side) in pixels of each cached frame: (K,3)."""
    n = file_format(np.random.default_rng(clip.seed)).frames
    path = clip_course(clip, n)
    at = ((np.arange(K) + 0.5) * n / K).astype(int)
    return np.stack([S / 2 + path.x[at] * S, S / 2 + path.y[at] * S, path.size[at] * S], -1)


SETS = {
    "train": (TRAIN_SEED, CLIPS),
    "varied": (VARIED_SEED, VARIED),
    "spin": (TRAIN_SEED, SPIN),
    "stills": (STILLS_SEED, STILLS),
}


def load(data: Path, name: str) -> tuple[np.ndarray, list[Clip]]:
    """Return the cached frames (N,K,S,S,3) of a set and what each clip shows."""
    frames = np.load(data / f"{name}.npy", mmap_mode="r")
    return frames, list(train_clips(len(frames), *SETS[name]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    for name in SETS:
        paths = sorted((args.data / name).glob("[0-9]*.mp4"))
        done, part = args.data / f"{name}.npy", args.data / f"{name}.part.npy"
        if not paths or done.exists():
            continue
        out = np.lib.format.open_memmap(part, "w+", np.uint8, (len(paths), K, S, S, 3))
        with Pool(os.cpu_count()) as pool:
            for i, frames in enumerate(pool.imap(_read, paths, chunksize=32)):
                out[i] = frames
        out.flush()
        part.rename(done)
