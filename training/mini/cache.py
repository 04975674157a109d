"""Decode the training clips once: ``python -m training.mini.cache DATA``.

Makes DATA/train.npy, varied.npy and stills.npy: (N,K,S,S,3) uint8. Frames come from
`stopcli.video`, as they do when the model is used.
"""

from __future__ import annotations

import argparse
import os
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from stopcli.fileio import replacing
from stopcli.video.clips import read_frames
from training.world.clips import Clip, clip_course, file_format, train_clips
from training.world.files import TRAINING_SETS

K = 16  # frames kept of a clip; the prompts' training picks one of each two neighbours
S = 96  # pixels


def _read(path: Path) -> np.ndarray:
    return read_frames(path, K, S, threads=1).pixels


def positions(clip: Clip) -> np.ndarray:
    """Return the object's (x, y, side) in pixels in each cached frame: (K,3)."""
    n = file_format(np.random.default_rng(clip.seed)).frames
    path = clip_course(clip, n)
    at = ((np.arange(K) + 0.5) * n / K).astype(int)
    return np.stack([S / 2 + path.x[at] * S, S / 2 + path.y[at] * S, path.size[at] * S], -1)


def load(data: Path, name: str) -> tuple[np.ndarray, list[Clip]]:
    """Return the cached frames (N,K,S,S,3) of a set and what each clip shows."""
    frames = np.load(data / f"{name}.npy", mmap_mode="r")
    return frames, list(train_clips(len(frames), *TRAINING_SETS[name]))


def main() -> None:
    """Decode every set that is there and not decoded yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    for name in TRAINING_SETS:
        paths = sorted((data / name).glob("[0-9]*.mp4"))
        file = data / f"{name}.npy"
        if not paths or file.exists():
            continue
        with replacing(file) as part, Pool(os.cpu_count()) as pool:
            out = np.lib.format.open_memmap(part, "w+", np.uint8, (len(paths), K, S, S, 3))
            for i, frames in enumerate(pool.imap(_read, paths, chunksize=32)):
                out[i] = frames
            out.flush()


if __name__ == "__main__":
    main()
