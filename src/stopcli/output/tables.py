"""How each kind of record is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stopcli.results import BenchmarkScore


def cell(score: BenchmarkScore, name: str) -> str:
    """Return a score with its interval, as tables show it."""
    if name not in score.scores:
        return ""
    value = f"{score.scores[name]:.1f}"
    if name not in score.interval:
        return value
    low, high = score.interval[name]
    return f"{value} ({low:.1f}-{high:.1f})"


def flat(score: BenchmarkScore) -> dict[str, object]:
    """Return a score as one row of plain values."""
    out: dict[str, object] = {"method": score.method, "dataset": score.dataset, "direction": score.direction}
    for name in ("top-1", "top-5", "R@1", "R@5", "R@10", "MdR", "MnR"):
        low, high = score.interval.get(name, (None, None))
        out |= {name: score.scores.get(name), f"{name} low": low, f"{name} high": high}
    return out | {"clips": score.clips, "missing": score.missing, "published": score.published}
