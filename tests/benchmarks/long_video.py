"""Twelve frames of a long video against decoding it all: ``python long_video.py [--minutes 30]``.

The file is H.264 with a key frame every 10 s, as cameras and archives write them. Peak memory is
that of the reading process, which must not grow with the length.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

READ = """
import resource, sys, time
import av
from stopcli.video.clips import read_frames
began = time.perf_counter()
if sys.argv[2] == "sampled":
    read_frames(sys.argv[1], 12, 224)
else:
    with av.open(sys.argv[1]) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            pass
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write(path: Path, minutes: float) -> None:
    rng = np.random.default_rng(0)
    tiles = [rng.integers(0, 255, (18, 32, 3), dtype=np.uint8) for _ in range(8)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.options = {"g": "250", "keyint_min": "250", "sc_threshold": "0", "preset": "ultrafast"}
        for i in range(round(minutes * 60 * 25)):
            image = np.roll(tiles[i // 250 % 8].repeat(20, 0).repeat(20, 1), i % 640, 1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        out.mux(stream.encode())


def measure(path: Path, how: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", READ, path, how], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("files", nargs="*", type=Path, help="videos to read instead of one made here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = args.files
        if not files:
            files = [Path(scratch) / f"{m:g}-minutes.mp4" for m in (args.minutes / 10, args.minutes)]
            for path, minutes in zip(files, (args.minutes / 10, args.minutes), strict=True):
                began = time.perf_counter()
                write(path, minutes)
                print(f"made {path.name} in {time.perf_counter() - began:.0f} s")
        for path in files:
            sampled, memory = measure(path, "sampled")
            whole, _ = measure(path, "whole")
            print(
                f"{path.name}: 12 frames {sampled:.2f} s, decoding all {whole:.2f} s, "
                f"ratio {whole / sampled:.1f}; peak {memory:.0f} MiB"
            )


if __name__ == "__main__":
    main()
