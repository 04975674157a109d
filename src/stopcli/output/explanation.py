"""The picture of an `Explanation`: frames, regions, prompts between frames, labels over time."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stopcli.results import Explanation

REGION, PROMPT, NOW = "#facc15", "#2563eb", "#dc2626"
LINES = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#be123c", "#4d7c0f", "#6b7280")
LABELS_SHOWN = 6


def picture(told: Explanation, *, now: int | None = None) -> bytes:
    """Draw an explanation as a PNG.

    Args:
        told: what to draw.
        now: mark this frame, for a film of them; None marks none.
    """
    figure = _figure(told, now)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=110, metadata={"Software": None})
    return held.getvalue()


def save(told: Explanation, path: Path) -> None:
    """Write the picture; all or nothing."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(picture(told))
    os.replace(part, path)


def film(told: Explanation, path: Path, seconds: float = 0.8) -> None:
    """Write the picture as an MP4 that walks through the frames; all or nothing."""
    import av

    part = path.with_name(f".{path.stem}.part{path.suffix}")
    with av.open(str(part), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=Fraction(10))
        stream.pix_fmt = "yuv420p"
        for now in range(len(told.frames)):
            image = _pixels(told, now)
            if now == 0:
                stream.width, stream.height = image.shape[1], image.shape[0]
            for _ in range(round(10 * seconds)):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    os.replace(part, path)


def _pixels(told: Explanation, now: int) -> NDArray[np.uint8]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _figure(told, now)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3]
    even: NDArray[np.uint8] = np.ascontiguousarray(
        image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
    )
    return even


def _figure(told: Explanation, now: int | None) -> Any:
    from matplotlib.figure import Figure

    frames = len(told.frames)
    spatial, labelled = len(told.regions) > 0, len(told.labels) > 0
    heights = [1.15, *([1.0] if spatial else []), 0.8, *([1.0] if labelled else [])]
    figure = Figure(figsize=(max(9.0, 1.55 * frames), 0.9 + 1.5 * sum(heights)), layout="constrained")
    figure.suptitle(
        f"{Path(told.path).name}: what the prompts do in block {told.block} of {told.blocks}",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    widths = [w for i in range(frames) for w in ((1.0, 0.3) if i < frames - 1 else (1.0,))]
    grid = figure.add_gridspec(len(heights), len(widths), width_ratios=widths, height_ratios=heights)
    for i in range(frames):
        axes = figure.add_subplot(grid[0, 2 * i])
        _frame(axes, told, i, now)
        if spatial:
            _heat(figure.add_subplot(grid[1, 2 * i]), told, i)
        if i < frames - 1:
            _gap(figure.add_subplot(grid[0, 2 * i + 1]), told, i)
    _variation(figure.add_subplot(grid[1 + spatial, :]), told, now)
    if labelled:
        _labels(figure.add_subplot(grid[2 + spatial, :]), told, now)
    return figure


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _frame(axes: Any, told: Explanation, i: int, now: int | None) -> None:
    from matplotlib.patches import Rectangle

    axes.imshow(told.frames[i])
    _bare(axes)
    axes.set_title(f"{told.times[i]:.1f} s", fontsize=9, color=NOW if now == i else "black")
    if len(told.regions):
        rows, columns = told.regions.shape[1:]
        height, width = told.frames.shape[1] / rows, told.frames.shape[2] / columns
        for r, c in np.argwhere(told.regions[i]):
            box = Rectangle(
                (c * width, r * height), width - 1, height - 1, fill=False, edgecolor=REGION, linewidth=1.4
            )
            axes.add_patch(box)
    if i == 0:
        axes.set_ylabel("regions\n(outlined)", fontsize=8)


def _heat(axes: Any, told: Explanation, i: int) -> None:
    size = told.frames.shape[1]
    axes.imshow(told.frames[i].mean(-1), cmap="gray", vmin=0, vmax=255)
    axes.imshow(
        told.scores[i],
        cmap="inferno",
        vmin=0,
        vmax=1,
        alpha=0.6,
        extent=(0, size, size, 0),
        interpolation="nearest",
    )
    _bare(axes)
    if i == 0:
        axes.set_ylabel("region\nscores", fontsize=8)


def _gap(axes: Any, told: Explanation, i: int) -> None:
    """Draw the prompts of a gap as a stack of bars between its frames."""
    count = int(told.counts[i])
    for k in range(told.most):
        colour = PROMPT if k < count else "#e5e7eb"
        axes.bar(0, 0.8, bottom=k + 0.1, width=0.7, color=colour)
    axes.set_ylim(0, told.most * 1.5)
    axes.set_xlim(-0.6, 0.6)
    _bare(axes)
    axes.set_xlabel(str(count), fontsize=9, color=PROMPT if count else "#6b7280")


def _span(told: Explanation) -> tuple[float, float]:
    step = float(told.times[-1] - told.times[0]) / max(1, len(told.times) - 1) or 1.0
    return float(told.times[0]) - step / 2, float(told.times[-1]) + step / 2


def _variation(axes: Any, told: Explanation, now: int | None) -> None:
    middles = (told.times[:-1] + told.times[1:]) / 2
    axes.plot(middles, told.variation, color=PROMPT, marker="o", markersize=4)
    axes.fill_between(middles, told.variation, color=PROMPT, alpha=0.12)
    axes.set_ylim(0, 1.1)
    axes.set_xlim(*_span(told))
    axes.set_ylabel("change between\nframes", fontsize=8)
    axes.set_title(
        "numbers between frames: temporal prompts put into that gap", fontsize=8, loc="left", color="#374151"
    )
    _finish(axes, told, now)


def _labels(axes: Any, told: Explanation, now: int | None) -> None:
    shown = np.argsort(-np.maximum(told.shares.max(0), told.whole), kind="stable")[:LABELS_SHOWN]
    for k, c in enumerate(shown):
        middles = told.spans.mean(1)
        name = f"{told.labels[c]} ({told.whole[c]:.0%} of the whole clip)"
        axes.plot(middles, told.shares[:, c] * 100, color=LINES[k % len(LINES)], marker=".", label=name)
    axes.set_ylim(0, 105)
    axes.set_xlim(*_span(told))
    axes.set_ylabel("label score in\nhalf-clip windows, %", fontsize=8)
    axes.set_xlabel("seconds", fontsize=8)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncol=3, frameon=False)
    _finish(axes, told, now)


def _finish(axes: Any, told: Explanation, now: int | None) -> None:
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if now is not None:
        axes.axvline(float(told.times[now]), color=NOW, linewidth=1)
