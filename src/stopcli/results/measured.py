"""What benchmarks measure: how accurate, how fast, how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BenchmarkScore:
    """A method's scores in one direction, percent but for ranks, with 95 % intervals.

    ``published`` ones are the authors' figures; ``provenance`` says how a measured one was made.
    """

    method: str
    dataset: str
    direction: str  # text-to-video, video-to-text, classification or moments
    scores: dict[str, float]
    interval: dict[str, tuple[float, float]]
    clips: int | None
    missing: int
    published: bool
    provenance: dict[str, Any]


@dataclass(frozen=True)
class TrialScore:
    """What models made from few clips know, percent: the mean over seeds, and each of them.

    ``scores`` are top-1, or those of base and novel classes and their harmonic mean. ``weights`` says which
    were asked: the last epoch's; or the best epoch's, picked on the test, as papers have it.
    """

    method: str
    dataset: str
    protocol: str  # few-shot or base-to-novel
    shots: int | None  # clips of each class that were trained on
    weights: str
    scores: dict[str, float]
    seeds: dict[int, dict[str, float]]
    clips: int | None  # that were asked
    published: bool
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Speed:
    """One measurement of speed, the median of rounds; ``share`` is of the measured matrix-product rate."""

    stage: str
    model: str
    precision: str
    batch_size: int
    per_second: float
    unit: str
    spread: float | None = None  # from the slowest round to the fastest, as a share of the median
    over_plain: float | None = None  # time over that of plain CLIP on the same frames
    tflops: float | None = None
    share: float | None = None
    peak_mib: float | None = None


@dataclass(frozen=True)
class Throughput:
    """What went through: ``footage_seconds`` of ``files`` as ``clips`` in ``seconds``, on so many ``cores``.

    Decoding on one core and the model were then measured by themselves: one model keeps as many cores
    decoding as ``decode_cores_per_encoder`` says.
    """

    device: str
    precision: str
    cores: int
    batch_size: int
    frames: int  # of a clip
    window: float | None
    files: int
    failed: int
    clips: int
    footage_seconds: float
    seconds: float
    clips_per_second: float
    footage_hours_per_hour: float
    decoded_per_second_and_core: float
    encoded_per_second: float
    decode_cores_per_encoder: float
