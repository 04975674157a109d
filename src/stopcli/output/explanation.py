"""The picture of an `Explanation`: frames, regions, prompts between frames, labels over time."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopcli.fileio import replacing
from stopcli.output.figures import literal
from stopcli.results import Explanation

REGION, PROMPT, NOW = "#facc15", "#2563eb", "#dc2626"
LINES = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#be123c", "#4d7c0f", "#6b7280")
LABELS_SHOWN = 6


def picture(explanation: Explanation) -> bytes:
    """Draw an explanation as a PNG."""
    buffer = io.BytesIO()
    _figure(explanation, None).savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def film(explanation: Explanation, path: Path, seconds: float = 0.8) -> None:
    """Write the picture as an MP4 that walks through the frames, for ``seconds`` each; all or nothing.

    Raises:
        CannotWrite: the file cannot be written.
    """
    import av

    with replacing(path) as part, av.open(str(part), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=Fraction(10))
        stream.pix_fmt = "yuv420p"
        for now in range(len(explanation.frames)):
            image = _pixels(_figure(explanation, now))
            if now == 0:
                stream.width, stream.height = image.shape[1], image.shape[0]
            for _ in range(round(10 * seconds)):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())


def heat(explanation: Explanation, i: int) -> NDArray[np.uint8]:
    """Return the region scores of frame ``i`` in color over the frame in grey: (S,S,3)."""
    from matplotlib import colormaps

    frame, scores = explanation.frames[i], explanation.scores[i]
    rows, columns = (np.arange(frame.shape[k]) * scores.shape[k] // frame.shape[k] for k in (0, 1))
    color = 255 * np.asarray(colormaps["inferno"](scores[np.ix_(rows, columns)]))[..., :3]
    mixed: NDArray[np.uint8] = (0.4 * frame.mean(-1, keepdims=True) + 0.6 * color).astype(np.uint8)
    return mixed


def shown_labels(explanation: Explanation) -> list[int]:
    """Return which labels are shown: those with the highest scores at any time, highest first."""
    if not explanation.labels:
        return []
    highest = np.maximum(explanation.shares.max(0), explanation.whole)
    return [int(c) for c in np.argsort(-highest, kind="stable")[:LABELS_SHOWN]]


def _pixels(figure: Any) -> NDArray[np.uint8]:
    """Return a figure as (H,W,3) with even sides, as H.264 needs them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())
    height, width = (side // 2 * 2 for side in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width, :3])


def _figure(explanation: Explanation, now: int | None) -> Any:
    from matplotlib.figure import Figure

    frames = len(explanation.frames)
    spatial, labelled = len(explanation.regions) > 0, len(explanation.labels) > 0
    heights = [1.15, *([1.0] if spatial else []), 0.8, *([1.0] if labelled else [])]
    figure = Figure(figsize=(max(9.0, 1.55 * frames), 0.9 + 1.5 * sum(heights)), layout="constrained")
    title = f"{Path(explanation.path).name}: what the prompts do in block {explanation.block}"
    figure.suptitle(literal(f"{title} of {explanation.blocks}"), x=0.01, ha="left", fontsize=12)
    widths = [w for i in range(frames) for w in ((1.0, 0.3) if i < frames - 1 else (1.0,))]
    grid = figure.add_gridspec(len(heights), len(widths), width_ratios=widths, height_ratios=heights)
    for i in range(frames):
        axes = figure.add_subplot(grid[0, 2 * i])
        _frame(axes, explanation, i, now)
        if spatial:
            _heat(figure.add_subplot(grid[1, 2 * i]), explanation, i)
        if i < frames - 1:
            _gap(figure.add_subplot(grid[0, 2 * i + 1]), explanation, i)
    _variation(figure.add_subplot(grid[1 + spatial, :]), explanation, now)
    if labelled:
        _labels(figure.add_subplot(grid[2 + spatial, :]), explanation, now)
    return figure


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _frame(axes: Any, explanation: Explanation, i: int, now: int | None) -> None:
    from matplotlib.patches import Rectangle

    axes.imshow(explanation.frames[i])
    _bare(axes)
    axes.set_title(f"{explanation.times[i]:.1f} s", fontsize=9, color=NOW if now == i else "black")
    if len(explanation.regions):
        rows, columns = explanation.regions.shape[1:]
        height, width = explanation.frames.shape[1] / rows, explanation.frames.shape[2] / columns
        for r, c in np.argwhere(explanation.regions[i]):
            box = Rectangle(
                (c * width, r * height), width - 1, height - 1, fill=False, edgecolor=REGION, linewidth=1.4
            )
            axes.add_patch(box)
    if i == 0:
        axes.set_ylabel("regions\n(outlined)", fontsize=8)


def _heat(axes: Any, explanation: Explanation, i: int) -> None:
    axes.imshow(heat(explanation, i))
    _bare(axes)
    if i == 0:
        axes.set_ylabel("region\nscores", fontsize=8)


def _gap(axes: Any, explanation: Explanation, i: int) -> None:
    """Draw the prompts of a gap as a stack of bars between its frames."""
    count = int(explanation.counts[i])
    for k in range(explanation.most):
        color = PROMPT if k < count else "#e5e7eb"
        axes.bar(0, 0.8, bottom=k + 0.1, width=0.7, color=color)
    axes.set_ylim(0, explanation.most * 1.5)
    axes.set_xlim(-0.6, 0.6)
    _bare(axes)
    axes.set_xlabel(str(count), fontsize=9, color=PROMPT if count else "#6b7280")


def _span(explanation: Explanation) -> tuple[float, float]:
    step = float(explanation.times[-1] - explanation.times[0]) / max(1, len(explanation.times) - 1) or 1.0
    return float(explanation.times[0]) - step / 2, float(explanation.times[-1]) + step / 2


def _variation(axes: Any, explanation: Explanation, now: int | None) -> None:
    middles = (explanation.times[:-1] + explanation.times[1:]) / 2
    axes.plot(middles, explanation.variation, color=PROMPT, marker="o", markersize=4)
    axes.fill_between(middles, explanation.variation, color=PROMPT, alpha=0.12)
    axes.set_ylim(0, 1.1)
    axes.set_xlim(*_span(explanation))
    axes.set_ylabel("change between\nframes", fontsize=8)
    axes.set_title(
        "numbers between frames: temporal prompts put into that gap", fontsize=8, loc="left", color="#374151"
    )
    _finish(axes, explanation, now)


def _labels(axes: Any, explanation: Explanation, now: int | None) -> None:
    middles = explanation.spans.mean(1)
    for k, c in enumerate(shown_labels(explanation)):
        name = literal(f"{explanation.labels[c]} ({explanation.whole[c]:.0%} of the whole clip)")
        shares = 100 * explanation.shares[:, c]
        axes.plot(middles, shares, color=LINES[k % len(LINES)], marker=".", label=name)
    axes.set_ylim(0, 105)
    axes.set_xlim(*_span(explanation))
    axes.set_ylabel("label score in\nhalf-clip windows, %", fontsize=8)
    axes.set_xlabel("seconds", fontsize=8)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncol=3, frameon=False)
    _finish(axes, explanation, now)


def _finish(axes: Any, explanation: Explanation, now: int | None) -> None:
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if now is not None:
        axes.axvline(float(explanation.times[now]), color=NOW, linewidth=1)
