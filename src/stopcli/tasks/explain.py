"""What a model looks at in a clip: regions, prompts between the frames, attention, labels over time.

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
from stopcli.results import BlockTrace, Explanation, Look
from stopcli.video.clips import Frames
from stopcli.video.workers.pool import read_frames

if TYPE_CHECKING:
    from torch import Tensor

    from stopcli.model.stop import StopTrace
    from stopcli.runtime.encoder import Encoder

WINDOWS = 8  # over a clip, for the labels
NOTHING_TO_SHOW = "plain CLIP has no prompts to show; use a --model with prompts, or --focus motion"


def explain(
    encoder: Encoder,
    path: str | Path,
    *,
    block: int | None = None,
    labels: Sequence[str] = (),
    template: str | None = None,
    start: float | None = None,
    end: float | None = None,
    compare: bool = False,
) -> Explanation:
    """Run the model on a clip and return what its prompts, or its focus, did.

    ``block`` counts the prompted blocks from 1; None is the last but one, where regions have settled and
    the frames are still apart. ``labels`` are scored over time too. ``start`` and ``end`` are seconds.
    ``compare`` looks at the clip through the backbone alone, too.

    Raises:
        UsageError: no such block or stretch, or nothing to show. InputError: the video cannot be read.
    """
    check_stretch(start, end)
    if encoder.files.config.stop is None and not encoder.files.focus:
        raise UsageError(NOTHING_TO_SHOW)
    clip = read_frames(path, encoder.frames, encoder.framing, start=start, end=end)

    def look(model: Encoder, attention: Tensor) -> Look:
        """Return where a model looks in the clip, and its scores of the labels."""
        seen = attention[0].float().numpy().reshape(len(clip.pixels), *encoder.grid)
        if not labels:
            return Look(seen, np.zeros((0, 0), np.float32), np.zeros(0, np.float32))
        vectors = model.encode_pixels(np.stack([*windows, clip.pixels]))
        head = model.head.of(labels, template) if model.head else None
        shares = model.label_scores(vectors, texts, head).shares
        return Look(seen, shares[:-1], shares[-1])

    trace = encoder.trace(clip.pixels[None])
    blocks = _blocks(trace, encoder)
    chosen = block if block is not None else max(1, len(blocks) - 1)
    if not 1 <= chosen <= len(blocks):
        raise UsageError(f"--block must be between 1 and {len(blocks)}, got {chosen}")
    windows, spans = _windows(encoder, path, clip) if labels else ([], np.zeros((0, 2)))
    if labels:
        texts = encoder.encode_texts(prompts_for(labels, encoder.files.config, template))
    plain = None
    if compare:
        without = encoder.without_prompts()
        plain = look(without, without.trace(clip.pixels[None]).attention)
    config = encoder.files.config.stop
    grid = (-1, *encoder.grid)
    return Explanation(
        path=str(path),
        model=encoder.files.title,
        block=chosen,
        frames=clip.pixels,
        times=clip.times,
        energy=trace.energy.float().numpy().reshape(grid),
        certainty=trace.certainty.float().numpy().reshape(-1),
        trace=blocks,
        most=config.eta if config is not None else 0,
        labels=tuple(labels),
        spans=spans,
        look=look(encoder, trace.attention),
        plain=plain,
    )


def check_stretch(start: float | None, end: float | None) -> None:
    """Raise UsageError if the seconds of a clip end before they begin."""
    if end is not None and not end > (start or 0):
        raise UsageError(f"--end must be after --start, got {end:g} and {start or 0:g}")


def _blocks(trace: StopTrace, encoder: Encoder) -> tuple[BlockTrace, ...]:
    """Return what each prompted block did in the one clip; of focus, what it did in all of them."""

    def of(values: Tensor, i: int, *shape: int) -> NDArray[np.float32]:
        return (values[i, 0].float() if len(values) else values).numpy().reshape(-1, *shape)

    grid, blocks = encoder.grid, max(len(trace.scores), len(trace.counts))
    return tuple(
        BlockTrace(
            regions=of(trace.regions, i, *grid) > 0,
            scores=of(trace.scores, i, *grid),
            bias=of(trace.bias, i, *grid),
            variation=of(trace.variation, i),
            counts=of(trace.counts, i).astype(np.int64),
        )
        for i in range(blocks)
    )


def _windows(
    encoder: Encoder, path: str | Path, clip: Frames
) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    """Return the frames of windows of half the clip that slide over it, and their seconds (W,2)."""
    length = (clip.end - clip.start) / 2  # shorter ones would show too little of a motion
    begins = np.linspace(clip.start, clip.start + length, WINDOWS)
    spans = np.stack([begins, begins + length], 1)
    return [
        read_frames(path, encoder.frames, encoder.framing, start=a, end=b).pixels for a, b in spans
    ], spans
