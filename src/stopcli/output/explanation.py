"""The picture of an `Explanation`: frames, regions, prompts between frames, labels over time."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopcli.fileio import replacing
from stopcli.output.figures import literal
from stopcli.results import Explanation, Look

REGION, PROMPT, NOW = "#facc15", "#2563eb", "#dc2626"
LINES = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#be123c", "#4d7c0f", "#6b7280")
LABELS_SHOWN = 6


def picture(explanation: Explanation, now: int | None = None) -> bytes:
    """Draw an explanation as a PNG; frame ``now`` is marked."""
    buffer = io.BytesIO()
    _figure(explanation, now).savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def film(explanation: Explanation, path: Path, seconds: float = 0.8, *, fresh: bool = False) -> None:
    """Write an MP4 that walks through the frames, for ``seconds`` each, as `replacing` does."""
    import av
    from PIL import Image

    with replacing(path, fresh=fresh) as part, av.open(f"file:{part}", "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=Fraction(10))
        stream.pix_fmt = "yuv420p"
        for now in range(len(explanation.frames)):
            image = Image.open(io.BytesIO(picture(explanation, now))).convert("RGB")
            if now == 0:
                stream.width, stream.height = (side // 2 * 2 for side in image.size)  # H.264 needs even sides
            frame = av.VideoFrame.from_image(image.crop((0, 0, stream.width, stream.height)))
            for _ in range(round(10 * seconds)):
                out.mux(stream.encode(frame))
        out.mux(stream.encode())


def heat(explanation: Explanation, i: int) -> NDArray[np.uint8]:
    """Return the region scores of frame ``i`` in color over the frame in grey: (S,S,3)."""
    return overlay(explanation.frames[i], explanation.shown.scores[i])


def gaze(explanation: Explanation, look: Look, i: int) -> NDArray[np.uint8]:
    """Return where the class token looks in frame ``i``, as `heat`; the same scale with and without."""
    looks = [x.attention[i] for x in (explanation.look, explanation.plain) if x is not None]
    return overlay(explanation.frames[i], look.attention[i] / max(float(x.max()) for x in looks))


def overlay(frame: NDArray[np.uint8], scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return scores (g,g) in [0,1] in color over a frame (S,S,3) in grey."""
    from matplotlib import colormaps

    rows, columns = (np.arange(frame.shape[k]) * scores.shape[k] // frame.shape[k] for k in (0, 1))
    color = 255 * np.asarray(colormaps["inferno"](scores[np.ix_(rows, columns)]))[..., :3]
    mixed: NDArray[np.uint8] = (0.4 * frame.mean(-1, keepdims=True) + 0.6 * color).astype(np.uint8)
    return mixed


def shown_labels(explanation: Explanation) -> list[int]:
    """Return which labels are shown: those with the highest scores at any time, highest first."""
    if not explanation.labels:
        return []
    highest = np.maximum(explanation.look.shares.max(0), explanation.look.whole)
    return [int(c) for c in np.argsort(-highest, kind="stable")[:LABELS_SHOWN]]


def _figure(explanation: Explanation, now: int | None) -> Any:
    from matplotlib.figure import Figure

    frames = len(explanation.frames)
    rows: list[tuple[str, Callable[[int], NDArray[np.uint8]]]] = []  # of pictures, below the frames
    if len(explanation.shown.scores):
        rows.append(("region\nscores", partial(heat, explanation)))
    if explanation.plain is not None:
        rows.append(("looks at", partial(gaze, explanation, explanation.look)))
        rows.append(("looks at,\nplain CLIP", partial(gaze, explanation, explanation.plain)))
    temporal, labelled = len(explanation.shown.counts) > 0, len(explanation.labels) > 0
    heights = [1.15] + [1.0] * len(rows) + [0.8] * temporal + [1.0] * labelled
    figure = Figure(figsize=(max(9.0, 1.55 * frames), 0.9 + 1.5 * sum(heights)), layout="constrained")
    figure.suptitle(literal(title_of(explanation)), x=0.01, ha="left", fontsize=12)
    widths = [1.0, 0.3] * (frames - 1) + [1.0]
    grid = figure.add_gridspec(len(heights), len(widths), width_ratios=widths, height_ratios=heights)
    for i in range(frames):
        _frame(figure.add_subplot(grid[0, 2 * i]), explanation, i, now)
        for k, (name, draw) in enumerate(rows, 1):
            axes = figure.add_subplot(grid[k, 2 * i])
            axes.imshow(draw(i))
            _bare(axes, name if i == 0 else "")
        if temporal and i < frames - 1:
            _gap(figure.add_subplot(grid[0, 2 * i + 1]), explanation, i)
    below = 1 + len(rows)
    if temporal:
        _variation(figure.add_subplot(grid[below, :]), explanation, now)
    if labelled:
        _labels(figure.add_subplot(grid[below + temporal, :]), explanation, now)
    return figure


def title_of(explanation: Explanation) -> str:
    """Return one sentence on what is shown, and how far the regions can be trusted."""
    name, sure = Path(explanation.path).name, unsure(explanation)
    if explanation.most:
        what = f"what the prompts do in block {explanation.block} of {len(explanation.trace)}"
    else:
        what = "what focus draws attention to"
    return f"{name}: {what}" + (f" ({sure})" if sure else "")


def unsure(explanation: Explanation) -> str:
    """Say where it is not certain what moves; empty if it is."""
    lost = int((explanation.certainty < 0.5).sum())
    if not lost:
        return ""
    return f"the camera could not be followed in {lost} of {len(explanation.certainty)} frames"


def _bare(axes: Any, side: str = "") -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_ylabel(side, fontsize=8)
    axes.spines[:].set_visible(False)


def _frame(axes: Any, explanation: Explanation, i: int, now: int | None) -> None:
    from matplotlib.patches import Rectangle

    axes.imshow(explanation.frames[i])
    _bare(axes, "regions\n(outlined)" if i == 0 else "")
    axes.set_title(f"{explanation.times[i]:.1f} s", fontsize=9, color=NOW if now == i else "black")
    regions = explanation.shown.regions
    if len(regions):
        height, width = np.array(explanation.frames.shape[1:3]) / regions.shape[1:]
        for r, c in np.argwhere(regions[i]):
            corner, size = (c * width, r * height), (width - 1, height - 1)
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=REGION, linewidth=1.4))


def _gap(axes: Any, explanation: Explanation, i: int) -> None:
    """Draw the prompts of a gap as a stack of bars between its frames."""
    count = int(explanation.shown.counts[i])
    for k in range(explanation.most):
        axes.bar(0, 0.8, bottom=k + 0.1, width=0.7, color=PROMPT if k < count else "#e5e7eb")
    axes.set(xlim=(-0.6, 0.6), ylim=(0, explanation.most * 1.5))
    _bare(axes)
    axes.set_xlabel(str(count), fontsize=9, color=PROMPT if count else "#6b7280")


def _variation(axes: Any, explanation: Explanation, now: int | None) -> None:
    middles = (explanation.times[:-1] + explanation.times[1:]) / 2
    axes.plot(middles, explanation.shown.variation, color=PROMPT, marker="o", markersize=4)
    axes.fill_between(middles, explanation.shown.variation, color=PROMPT, alpha=0.12)
    note = "numbers between frames: temporal prompts put into that gap"
    axes.set_title(note, fontsize=8, loc="left", color="#374151")
    _over_time(axes, explanation, now, "change between\nframes", 1.1)


def _labels(axes: Any, explanation: Explanation, now: int | None) -> None:
    for color, c in zip(LINES, shown_labels(explanation), strict=False):
        look, plain, middles = explanation.look, explanation.plain, explanation.spans.mean(1)
        name = literal(f"{explanation.labels[c]} ({look.whole[c]:.0%} of the whole clip)")
        axes.plot(middles, 100 * look.shares[:, c], color=color, marker=".", label=name)
        if plain is not None:
            name = f"... by plain CLIP ({plain.whole[c]:.0%})"
            axes.plot(middles, 100 * plain.shares[:, c], color=color, linestyle=":", label=name)
    axes.set_xlabel("seconds", fontsize=8)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncol=3, frameon=False)
    _over_time(axes, explanation, now, "label score in\nhalf-clip windows, %", 105)


def _over_time(axes: Any, explanation: Explanation, now: int | None, side: str, top: float) -> None:
    """Give axes the clip's time from left to right, half a step wider, and mark the frame of ``now``."""
    times = explanation.times
    step = float(times[-1] - times[0]) / max(1, len(times) - 1) or 1.0
    axes.set(xlim=(times[0] - step / 2, times[-1] + step / 2), ylim=(0, top))
    axes.set_ylabel(side, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if now is not None:
        axes.axvline(float(times[now]), color=NOW, linewidth=1)
