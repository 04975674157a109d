"""What STOP looks at in a clip: regions, region scores, prompts between the frames, labels over time.

Letters: T frames, G = T-1 gaps, g patches a side, S side in pixels, C labels, W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.data.labels import prompts_for
from stopcli.errors import UsageError
from stopcli.results import Explanation
from stopcli.video.clips import Frames, read_frames

if TYPE_CHECKING:
    from torch import Tensor

    from stopcli.runtime.encoder import Encoder

WINDOWS = 8  # over a clip, for the labels


def explain(
    encoder: Encoder,
    path: str | Path,
    *,
    block: int | None = None,
    labels: Sequence[str] = (),
    template: str | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Explanation:
    """Run the model on a clip and return what its prompts did.

    ``block`` counts the prompted blocks from 1; None is the last but one, where regions have settled and
    the frames are still apart. ``labels`` are scored over time too. ``start`` and ``end`` are seconds.

    Raises:
        UsageError: the model has no prompts, or no such block. InputError: the video cannot be read.
    """
    clip = read_frames(path, encoder.frames, encoder.size, start=start, end=end)
    trace = encoder.trace(clip.pixels[None])
    config = encoder.files.config.stop
    assert config is not None
    blocks = max(len(trace.regions), len(trace.counts))
    chosen = block if block is not None else max(1, blocks - 1)
    if not 1 <= chosen <= blocks:
        raise UsageError(f"--block must be between 1 and {blocks}, got {chosen}")
    frames = len(clip.pixels)
    spatial, temporal = len(trace.regions) > 0, len(trace.counts) > 0
    shape = (frames, *encoder.grid) if spatial else (0, *encoder.grid)

    def of_block(values: Tensor, known: bool, size: int) -> NDArray[np.float32]:
        """Return what the chosen block did in this clip; zeros where the model has no such prompts."""
        return values[chosen - 1, 0].float().numpy() if known else np.zeros(size, np.float32)

    spans, shares, whole = _label_curves(encoder, path, clip, labels, template)
    return Explanation(
        path=str(path),
        model=encoder.files.name,
        block=chosen,
        blocks=blocks,
        frames=clip.pixels,
        times=clip.times,
        regions=of_block(trace.regions, spatial, 0).reshape(shape) > 0,
        scores=of_block(trace.scores, spatial, 0).reshape(shape),
        variation=of_block(trace.variation, temporal, frames - 1),
        counts=of_block(trace.counts, temporal, frames - 1).astype(np.int64),
        most=config.eta,
        labels=tuple(labels),
        spans=spans,
        shares=shares,
        whole=whole,
    )


def _label_curves(
    encoder: Encoder, path: str | Path, clip: Frames, labels: Sequence[str], template: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Score the labels in windows of half the clip that slide over it, and in the whole clip."""
    if not labels:
        return np.zeros((0, 2)), np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    length = (clip.end - clip.start) / 2  # shorter ones would show too little of a motion
    begins = np.linspace(clip.start, clip.start + length, WINDOWS)
    spans = np.stack([begins, begins + length], 1)
    parts = [read_frames(path, encoder.frames, encoder.size, start=a, end=b).pixels for a, b in spans]
    vectors = encoder.encode_pixels(np.stack([*parts, clip.pixels]))
    texts = encoder.encode_texts(prompts_for(labels, encoder.files.config, template))
    _, shares = encoder.label_scores(vectors, texts)
    return spans, shares[:-1], shares[-1]
