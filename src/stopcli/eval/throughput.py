"""How much footage goes through in an hour, and how many cores must decode to keep the model busy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopcli.errors import InputError
from stopcli.eval.speed import interleaved
from stopcli.results import EncodedClip, Failure
from stopcli.results.measured import Throughput
from stopcli.runtime.device import device_name
from stopcli.video.clips import Frames
from stopcli.video.workers.pool import read_clips
from stopcli.video.workers.prefetch import prefetch

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

ALONE = 60.0  # seconds for which decoding is measured by itself


def throughput(
    encoder: Encoder,
    paths: Sequence[Path],
    window: float | None,
    *,
    shots: bool = False,
    progress: Callable[..., object] = lambda *_: None,
) -> tuple[Throughput, list[Failure]]:
    """Embed all videos once, as an index does, then measure decoding on one core, and the model, alone.

    ``window`` and ``shots`` as in `Encoder.encode_videos`. Files that cannot be read are not counted.

    Raises InputError: none of the videos can be read.
    """
    clips, ends, failures = 0, dict[str, float](), list[Failure]()
    began = time.perf_counter()
    for item in encoder.encode_videos(paths, window=window, shots=shots, steady=True):
        if isinstance(item, EncodedClip):
            clips += 1
            ends[item.path] = max(item.until, ends.get(item.path, 0.0))
            if item.end is not None:
                progress(item.path, item.end)
                continue
        else:
            failures.append(item)
        progress(item.path)
    seconds = time.perf_counter() - began
    if not clips:
        raise InputError(f"{paths[0]}: none of the {len(paths)} videos can be read")
    decode, pixels = _decode(encoder, paths, window, shots=shots)
    ((encode, _),) = interleaved([lambda: encoder.encode_pixels(pixels)])
    footage, rate = sum(ends.values()), len(pixels) / encode
    measured = Throughput(
        device=device_name(encoder.device),
        precision=encoder.precision,
        cores=os.cpu_count() or 1,
        batch_size=encoder.batch_size,
        frames=encoder.frames,
        window=window,
        files=len(ends),
        failed=len({f.path for f in failures}),
        clips=clips,
        footage_seconds=round(footage, 3),
        seconds=round(seconds, 3),
        clips_per_second=clips / seconds,
        footage_hours_per_hour=footage / seconds,
        decoded_per_second_and_core=decode,
        encoded_per_second=rate,
        decode_cores_per_encoder=rate / decode,
    )
    return measured, failures


def _decode(
    encoder: Encoder, paths: Sequence[Path], window: float | None, *, shots: bool
) -> tuple[float, np.ndarray]:
    """Return clips per second that one core decodes, and frames (B,T,S,S,3) of one batch of them."""

    def read(path: Path) -> Iterable[Frames]:
        return read_clips(path, encoder.frames, encoder.framing, window, threads=1, shots=shots)

    kept: list[np.ndarray] = []
    count, began = 0, time.perf_counter()
    with closing(prefetch(read, paths, workers=1)) as decoded:
        for _, item in decoded:
            if isinstance(item, Frames):
                count += 1
                if len(kept) < encoder.batch_size:
                    kept.append(item.pixels)
            if kept and time.perf_counter() - began > ALONE:
                break
    seconds = time.perf_counter() - began
    kept += kept[-1:] * (encoder.batch_size - len(kept))
    return count / seconds, np.stack(kept)
