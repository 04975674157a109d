"""How fast, and what bounds it: decoding, the model, both together, beside the device's own limit."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopcli.results import Speed
from stopcli.video.clips import read_frames
from stopcli.video.prefetch import prefetch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from stopcli.model.files import ModelFiles
    from stopcli.runtime.encoder import Encoder, EncoderOptions

ROUNDS = 5
LEAST = 0.4  # seconds of one timing
MOST = 10.0  # seconds of all rounds: slow work is measured less often


def speed(
    files: ModelFiles,
    options: EncoderOptions,
    paths: Sequence[Path],
    *,
    precisions: Sequence[str],
    batch_sizes: Sequence[int],
) -> Iterator[Speed]:
    """Measure, and yield what was found, step by step.

    Args:
        files: the model; plain CLIP on its backbone is measured beside it, on the same frames.
        options: where to compute.
        paths: videos to decode; none makes one (10 s of 640x360, H.264) for the time of the run.
        precisions: of the model's arithmetic.
        batch_sizes: clips a batch.
    """
    from stopcli.runtime.encoder import Encoder

    with tempfile.TemporaryDirectory() as scratch:
        videos = list(paths) or [_made(Path(scratch) / f"{i}.mp4") for i in range(8)]
        decode = end_to_end = None
        for precision in precisions:
            encoder = Encoder(files, replace(options, precision=precision))
            if decode is None:
                decode = yield from _decode(encoder, videos)
            peak = yield from _matrix(encoder)
            best = 0.0
            for size in batch_sizes:
                rate = yield from _encode(encoder, size, peak)
                best = max(best, rate)
            end_to_end = yield from _end_to_end(encoder, videos)
            yield _verdict(encoder, decode, best, end_to_end)


def _decode(encoder: Encoder, videos: Sequence[Path]) -> Generator[Speed, None, float]:
    def read(path: Path) -> list[int]:
        return [len(read_frames(path, encoder.frames, encoder.size, threads=1).pixels)]

    def all_of_them() -> None:
        for _ in prefetch(read, videos):
            pass

    seconds = _median(all_of_them)
    rate = len(videos) * encoder.frames / seconds
    yield Speed("decode", "", "", len(videos), rate, "frames", None, None, None, None)
    return len(videos) / seconds


def _matrix(encoder: Encoder) -> Generator[Speed, None, float]:
    """Measure the device's matrix products, in the model's dtype: what could be had at best."""
    from stopcli.runtime.profile import matrix_product

    n = 8192 if encoder.device.type == "cuda" else 1536
    work = matrix_product(encoder, n)
    rate = 2 * n**3 / _median(work)
    yield Speed(
        "matrix product", "", encoder.precision, 1, rate / 1e12, "TFLOP", None, rate / 1e12, 1.0, None
    )
    return rate


def _encode(encoder: Encoder, size: int, peak: float) -> Generator[Speed, None, float]:
    from stopcli.runtime.profile import count_flops, peak_memory

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (size, encoder.frames, encoder.size, encoder.size, 3), np.uint8)
    plain = encoder.without_prompts()
    kinds = [plain] if encoder.files.config.stop is None else [plain, encoder]
    for kind in kinds:
        kind.batch_size = size
    rounds = _interleaved([lambda k=k: k.encode_pixels(pixels) for k in kinds])  # type: ignore[misc]
    first = 0.0
    for kind, seconds in zip(kinds, rounds, strict=True):
        flops = count_flops(kind, pixels)
        first = first or seconds
        is_plain = kind is plain
        rate = flops / seconds
        yield Speed(
            "encode", "plain CLIP" if is_plain else "STOP", encoder.precision, size, size / seconds, "clips",
            None if is_plain else seconds / first, rate / 1e12, rate / peak, peak_memory(kind, pixels),
        )  # fmt: skip
    return size / rounds[-1]


def _end_to_end(encoder: Encoder, videos: Sequence[Path]) -> Generator[Speed, None, float]:
    seconds = _median(lambda: list(encoder.encode_videos(videos)))
    rate = len(videos) / seconds
    yield Speed(
        "end to end", "", encoder.precision, encoder.batch_size, rate, "clips", None, None, None, None
    )
    return rate


def _verdict(encoder: Encoder, decode: float, encode: float, end_to_end: float) -> Speed:
    """Say what bounds the whole: the slower of the two stages, where one is clearly slower."""
    what = (
        "bound by decoding"
        if decode < 0.8 * encode
        else "bound by the model"
        if encode < 0.8 * decode
        else "balanced"
    )
    limit = min(decode, encode)
    return Speed(
        what, "", encoder.precision, encoder.batch_size, limit, "clips", None, None, end_to_end / limit, None
    )


def _median(work: Callable[[], object]) -> float:
    return _interleaved([work])[0]


def _interleaved(works: Sequence[Callable[[], object]]) -> list[float]:
    """Return the median seconds of each, measured in turns: a noisy machine is noisy to all alike."""
    once = []
    for work in works:
        work()
        began = time.perf_counter()
        work()
        once.append(max(1e-9, time.perf_counter() - began))
    repeats = [max(1, round(LEAST / seconds)) for seconds in once]
    taken: list[list[float]] = [[seconds] for seconds in once]
    for _ in range(max(1, min(ROUNDS, int(MOST / sum(once))))):
        for i, (work, count) in enumerate(zip(works, repeats, strict=True)):
            began = time.perf_counter()
            for _ in range(count):
                work()
            taken[i].append((time.perf_counter() - began) / count)
    return [statistics.median(t) for t in taken]


def _made(path: Path) -> Path:
    """Write 10 s of 640x360 at 25 frames a second: noise that moves, so that it costs what footage costs."""
    import av

    rng = np.random.default_rng(0)
    field = rng.integers(0, 256, (90, 160 + 250, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "26"}
        for i in range(250):
            picture = np.ascontiguousarray(field[:, 4 * i : 4 * i + 640])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return path
