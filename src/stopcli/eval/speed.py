"""How fast, and what bounds it: decoding, the model, both together, beside the device's own limit."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopcli.errors import DeviceError, InputError, StopError
from stopcli.model.files import ModelFiles
from stopcli.results import Failure
from stopcli.results.measured import Speed
from stopcli.video.workers.pool import read_frames
from stopcli.video.workers.prefetch import prefetch

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder, EncoderOptions

ROUNDS = 5
LEAST = 0.4  # seconds of one timing
MOST = 10.0  # seconds of all rounds: slow work is measured less often
BUSY = 0.5  # of the cores: more work than this that is not ours makes figures doubtful
WORSE = 0.9  # of the rate of smaller batches: worth a word


def speed(
    files: ModelFiles,
    options: EncoderOptions,
    paths: Sequence[Path],
    *,
    precisions: Sequence[str],
    batch_sizes: Sequence[int],
    say: Callable[[str], None],
) -> Iterator[Speed | Failure]:
    """Measure stage by stage; tell ``say`` in a sentence what bounds the whole.

    Plain CLIP on the model's backbone is measured beside it, on the same frames. Without paths, videos to
    decode (10 s of 640x360, H.264) are made for the time of the run. Batch sizes are in clips.
    Files that cannot be read are not measured; raises InputError where none can be.
    """
    from stopcli.runtime.encoder import Encoder

    load, cores = 0.0, os.cpu_count() or 1
    with suppress(AttributeError, OSError):  # not on Windows, nor where nothing tells it
        load = os.getloadavg()[0]
    if load > BUSY * cores:
        say(f"warning: other programs are busy here (load {load:.1f} on {cores} cores); rely on ratios only")
    with tempfile.TemporaryDirectory() as scratch:
        videos = list(paths) or [_synthetic(Path(scratch) / f"{i}.mp4") for i in range(8)]
        decoding: Speed | None = None
        for precision in precisions:
            encoder = Encoder(files, replace(options, precision=precision))
            if decoding is None:
                faults = _faults(encoder, videos)
                yield from (Failure.of(path, fault) for path, fault in faults.items())
                videos = [path for path in videos if path not in faults]
                if not videos:
                    raise InputError("none of the videos can be read; nothing was measured")
                decoding = _decode(encoder, videos)
                yield decoding
            product = _matrix_product(encoder)
            yield product
            best, best_size = 0.0, encoder.batch_size
            for size in sorted(batch_sizes):
                measured = list(_encode(encoder, size, product.tflops))
                if encoder.batch_size < size:
                    say(f"note: batches of {size} do not fit into memory; larger ones are not measured")
                    break
                yield from measured
                rate = measured[-1].per_second
                if rate < WORSE * best:
                    times = f"{best / rate:.1f} times as long as in smaller ones"
                    say(f"note: in batches of {size}, a clip takes {times}")
                best, best_size = max((best, best_size), (rate, size))
            if not best:
                raise DeviceError(f"{encoder.device}: not even {min(batch_sizes)} clips fit into its memory")
            encoder.batch_size = best_size
            whole = _end_to_end(encoder, videos)
            yield whole
            say(_verdict(encoder, decoding.per_second / encoder.frames, best, whole.per_second))


def _read(encoder: Encoder, videos: Sequence[Path]) -> Iterator[tuple[Path, int | StopError]]:
    def read(path: Path) -> list[int]:
        return [len(read_frames(path, encoder.frames, encoder.framing, threads=1).pixels)]

    yield from prefetch(read, videos)


def _faults(encoder: Encoder, videos: Sequence[Path]) -> dict[Path, StopError]:
    return {path: found for path, found in _read(encoder, videos) if isinstance(found, StopError)}


def _decode(encoder: Encoder, videos: Sequence[Path]) -> Speed:
    ((seconds, spread),) = interleaved([lambda: list(_read(encoder, videos))])
    return Speed("decode", "", "", len(videos), len(videos) * encoder.frames / seconds, "frames", spread)


def _matrix_product(encoder: Encoder) -> Speed:
    """Measure the device's matrix products, in the model's dtype: what could be had at best."""
    from stopcli.runtime.profile import matrix_product

    n = 8192 if encoder.device.type == "cuda" else 1536
    ((seconds, spread),) = interleaved([matrix_product(encoder, n)])
    tflops, unit = 2 * n**3 / seconds / 1e12, f"products {n}x{n}"
    return Speed("matrix product", "", encoder.precision, 1, 1 / seconds, unit, spread, tflops=tflops)


def _encode(encoder: Encoder, size: int, peak: float | None) -> Iterator[Speed]:
    from stopcli.runtime.profile import count_flops, peak_memory

    rng = np.random.default_rng(0)
    side = encoder.framing.size
    pixels = rng.integers(0, 256, (size, encoder.frames, side, side, 3), np.uint8)
    models = {"plain CLIP": encoder.without_prompts()}
    if encoder.files.config.stop is not None:
        models["STOP"] = encoder
    for model in models.values():
        model.batch_size = size
    rounds = interleaved([partial(model.encode_pixels, pixels) for model in models.values()])
    encoder.batch_size = min(model.batch_size for model in models.values())  # halved where it did not fit
    if encoder.batch_size < size:
        return
    for (name, model), (seconds, spread) in zip(models.items(), rounds, strict=True):
        # torch counts no products of int8
        flops = None if model.precision == "int8" else size * count_flops(model, pixels[:1])
        tflops = flops and flops / seconds / 1e12
        over_plain = seconds / rounds[0][0] if name == "STOP" else None
        share, memory = tflops / peak if tflops and peak else None, peak_memory(model, pixels)
        what = (name, model.precision, size, size / seconds, "clips", spread)
        yield Speed("encode", *what, over_plain, tflops, share, memory)


def _end_to_end(encoder: Encoder, videos: Sequence[Path]) -> Speed:
    ((seconds, spread),) = interleaved([lambda: list(encoder.encode_videos(videos))])
    rate = len(videos) / seconds
    return Speed("end to end", "", encoder.precision, encoder.batch_size, rate, "clips", spread)


def _verdict(encoder: Encoder, decode: float, encode: float, whole: float) -> str:
    """Say what bounds the whole: the slower of the two stages, where one is clearly slower. In clips/s."""
    limit = min(decode, encode)
    bound = "bound by decoding" if decode < 0.8 * encode else "bound by the model"
    if limit >= 0.8 * max(decode, encode):
        bound = "balanced between decoding and the model"
    return (
        f"{encoder.precision}: {bound}; decoding {decode:.3g} clips/s, the model {encode:.3g}, "
        f"both together {whole:.3g} ({whole / limit:.0%} of the slower one)"
    )


def interleaved(works: Sequence[Callable[[], object]]) -> list[tuple[float, float]]:
    """Return the median seconds of each and their spread, measured in turns: noise is noise to all alike.

    The spread is that from the fastest round to the slowest, as a share of the median.
    """
    once = []
    for work in works:
        work()
        began = time.perf_counter()
        work()
        once.append(max(1e-9, time.perf_counter() - began))
    repeats = [max(1, round(LEAST / seconds)) for seconds in once]
    taken: list[list[float]] = [[] for _ in once]  # the second call may still have set something up
    for _ in range(max(1, min(ROUNDS, int(MOST / sum(once))))):
        for i, (work, count) in enumerate(zip(works, repeats, strict=True)):
            began = time.perf_counter()
            for _ in range(count):
                work()
            taken[i].append((time.perf_counter() - began) / count)
    medians = map(statistics.median, taken)
    return [(median, (max(t) - min(t)) / median) for t, median in zip(taken, medians, strict=True)]


def _synthetic(path: Path) -> Path:
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
