"""An explanation as numbers, and the facts of it in a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from stopcli import results as r


def explanation_facts(e: r.Explanation) -> dict[str, Any]:
    """Return what a table says of an explanation."""
    regions = int(e.shown.regions[0].sum()) if len(e.shown.regions) else 0
    return {
        "written": e.written,
        "model": e.model,
        "block": f"{e.block} of {len(e.trace)}",
        "regions a frame": regions,
        "temporal prompts": int(e.shown.counts.sum()),
        "certainty": round(float(e.certainty.mean()), 3) if len(e.certainty) else None,
    }


def explanation_numbers(e: r.Explanation) -> dict[str, Any]:
    """Return the numbers of an explanation; regions are numbers of patches, row by row from 0."""

    def rows(values: Any) -> list[Any]:
        return [np.asarray(row, float).ravel().round(4).tolist() for row in values]

    def look(seen: r.Look) -> dict[str, Any]:
        whole = np.asarray(seen.whole, float).round(4).tolist()
        return {"attention": rows(seen.attention), "scores": rows(seen.shares), "score": whole}

    blocks = [
        {
            "block": i,
            "regions": [np.flatnonzero(frame).tolist() for frame in b.regions],
            "scores": rows(b.scores),
            "bias": rows(b.bias),
            "variation": np.asarray(b.variation, float).round(4).tolist(),
            "counts": b.counts.tolist(),
        }
        for i, b in enumerate(e.trace, 1)
    ]
    return {
        "path": e.path,
        "written": e.written,
        "model": e.model,
        "times": e.times.round(4).tolist(),
        "grid": list(e.look.attention.shape[1:]),
        "energy": rows(e.energy),
        "certainty": np.asarray(e.certainty, float).round(4).tolist(),
        "blocks": blocks,
        "block": e.block,
        "labels": list(e.labels),
        "windows": e.spans.round(4).tolist(),
        "look": look(e.look),
        "plain": look(e.plain) if e.plain is not None else None,
    }
