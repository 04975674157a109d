"""What STOP looks at in a clip: regions, region scores, prompts between the frames, labels over time.

Letters: T frames, G = T-1 gaps, g patches a side, S side in pixels, C labels, W windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stopcli.errors import UsageError
from stopcli.tasks.classify import TEMPLATE
from stopcli.video.clips import read_frames

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stopcli.runtime.encoder import Runtime

WINDOWS = 8  # over a clip, for the labels


@dataclass(frozen=True)
class Explanation:
    """One clip as one block of the model saw it."""

    path: str
    model: str
    block: int
    """From 1; of the prompted blocks."""
    blocks: int
    frames: NDArray[np.uint8]
    """(T,S,S,3)."""
    times: NDArray[np.float64]
    """(T,) seconds."""
    regions: NDArray[np.bool_]
    """(T,g,g): where spatial prompts land; empty where the model has none."""
    scores: NDArray[np.float32]
    """(T,g,g) in [0,1]: how discriminative each patch is."""
    variation: NDArray[np.float32]
    """(G,) in [0,1]: how much changes in each gap."""
    counts: NDArray[np.int64]
    """(G,): prompts put into each gap."""
    most: int
    """eta: prompts of the gap that changes most."""
    labels: tuple[str, ...]
    spans: NDArray[np.float64]
    """(W,2): seconds of the windows that the labels were scored in."""
    shares: NDArray[np.float32]
    """(W,C)."""
    whole: NDArray[np.float32]
    """(C,): of the whole clip."""


def explain(
    runtime: Runtime,
    path: str | Path,
    *,
    block: int | None = None,
    labels: Sequence[str] = (),
    start: float | None = None,
    end: float | None = None,
) -> Explanation:
    """Run the model on a clip and tell what its prompts did.

    Args:
        runtime: a model with prompts.
        path: a video file.
        block: which of the prompted blocks, from 1; None is the last but one, where regions have
            settled and the frames are still apart.
        labels: score these over time too.
        start: first second of the clip.
        end: its last second.

    Raises:
        UsageError: the model has no prompts, or no such block. InputError: the video cannot be read.
    """
    clip = read_frames(path, runtime.frames, runtime.size, start=start, end=end)
    told = runtime.trace(clip.pixels[None])
    config = runtime.files.config.stop
    assert config is not None
    blocks = max(len(told.regions), len(told.counts))
    chosen = block if block is not None else max(1, blocks - 1)
    if not 1 <= chosen <= blocks:
        raise UsageError(f"--block must be between 1 and {blocks}, got {chosen}")
    grid = runtime.grid
    frames = len(clip.pixels)
    spatial, temporal = len(told.regions) > 0, len(told.counts) > 0
    none = np.zeros((0, *grid))
    spans, shares, whole = _labels(runtime, path, clip.pixels, clip.start, clip.end, labels)
    return Explanation(
        path=str(path),
        model=runtime.files.name,
        block=chosen,
        blocks=blocks,
        frames=clip.pixels,
        times=clip.times,
        regions=told.regions[chosen - 1, 0].numpy().reshape(frames, *grid) if spatial else none.astype(bool),
        scores=told.scores[chosen - 1, 0].float().numpy().reshape(frames, *grid)
        if spatial
        else none.astype(np.float32),
        variation=told.variation[chosen - 1, 0].float().numpy()
        if temporal
        else np.zeros(frames - 1, np.float32),
        counts=told.counts[chosen - 1, 0].numpy() if temporal else np.zeros(frames - 1, np.int64),
        most=config.eta,
        labels=tuple(labels),
        spans=spans,
        shares=shares,
        whole=whole,
    )


def _labels(
    runtime: Runtime,
    path: str | Path,
    pixels: NDArray[np.uint8],
    start: float,
    end: float,
    labels: Sequence[str],
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Score the labels in windows of half the clip that slide over it, and in the whole clip."""
    if not labels:
        return np.zeros((0, 2)), np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    length = (end - start) / 2  # shorter ones would show too little of a motion
    begins = np.linspace(start, start + length, WINDOWS)
    spans = np.stack([begins, begins + length], 1)
    parts = [read_frames(path, runtime.frames, runtime.size, start=a, end=b).pixels for a, b in spans]
    vectors = runtime.encode_pixels(np.stack([*parts, pixels]))
    config = runtime.files.config
    template = "{}" if config.labels and set(labels) <= set(config.labels) else TEMPLATE
    texts = runtime.encode_texts([template.replace("{}", label) for label in labels])
    logits = runtime.logit_scale * vectors @ texts.T
    odds = np.exp(logits - logits.max(1, keepdims=True))
    shares = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
    return spans, shares[:-1], shares[-1]
