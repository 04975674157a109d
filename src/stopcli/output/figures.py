"""PNGs of numbers, drawn by matplotlib; `CannotWrite` where a file cannot be written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopcli.fileio import replacing

FONTS = (  # one after the other, for the characters that those before lack
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Hiragino Sans",
    "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS",
)  # fmt: skip
BLUE, ORANGE, GREY = "#2563eb", "#ea580c", "#6b7280"


def curve(
    path: Path,
    losses: Sequence[tuple[int, float]],
    scores: Sequence[tuple[int, float]],
    *,
    metric: str,
    plain: float | None,
) -> None:
    """Draw (step, loss), and (step, percent) of ``metric`` beside the percent of plain CLIP."""
    with _drawn(path, 7.0, 4.0) as (_, left):
        steps, values = np.array(losses, float).reshape(-1, 2).T
        left.plot(steps, values, color=BLUE, alpha=0.25, linewidth=1)
        width = max(1, len(values) // 25)
        if len(values) > 2 * width:
            smooth = np.convolve(values, np.ones(width) / width, "valid")
            left.plot(steps[width - 1 :], smooth, color=BLUE, linewidth=2)
        left.set_xlabel("step")
        left.set_ylabel("training loss", color=BLUE)
        left.set_ylim(bottom=0)
        left.set_xlim(left=0)
        right = left.twinx()
        if scores:
            right.plot(*zip(*scores, strict=True), color=ORANGE, marker="o", markersize=3)
        right.set_ylabel(f"validation {metric}, %", color=ORANGE)
        right.set_ylim(0, 102)
        if plain is not None:
            right.axhline(plain, color=GREY, linestyle="--", linewidth=1)
            right.text(0, plain + 1, f"plain CLIP {plain:.1f} %", color=GREY, fontsize=8)


def confusion(path: Path, counts: NDArray[np.int64], labels: Sequence[str], title: str) -> None:
    """Draw (C,C) clips by true class (row) and predicted one, in shares of the row."""
    n, labels = len(labels), [literal(label) for label in labels]
    side = min(22.0, max(4.5, 1.8 + 0.34 * n))
    with _drawn(path, side + 0.8, side) as (figure, axes):
        shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
        drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(drawn, ax=axes, fraction=0.04, label="share of the row's clips")
        size = 9 if n <= 30 else 6 if n <= 120 else 3
        axes.set_xticks(range(n), labels, rotation=90, fontsize=size)
        axes.set_yticks(range(n), labels, fontsize=size)
        axes.set(xlabel="predicted", ylabel="true")
        axes.set_title(literal(title), fontsize=10)
        if n <= 30:
            for i, j in np.argwhere(counts > 0):
                color = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=color, fontsize=8)


def literal(text: str) -> str:
    """Return a text so that matplotlib draws it as it is, with no formula in it."""
    return text.replace("$", r"\$")


@contextmanager
def _drawn(path: Path, width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """Yield a figure and its axes, and save them: with fonts for other scripts, if the machine has some."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    here = {font.name for font in fontManager.ttflist}
    fonts = [name for name in FONTS if name in here]
    with mpl.rc_context({"font.family": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")  # a box stands for it
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines["top"].set_visible(False)
        yield figure, axes
        with replacing(path) as part:
            figure.savefig(part, format="png", dpi=130, metadata={"Software": None})
