"""Which of these labels does a clip show?"""

from __future__ import annotations

from importlib.resources import files as package_files
from typing import TYPE_CHECKING

import numpy as np

from stopcli.errors import InputError, UsageError
from stopcli.results import Classification, Failure, Score

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stopcli.runtime.encoder import Runtime

TEMPLATE = "a video of {}"


def classify(
    runtime: Runtime,
    paths: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    template: str | None = None,
    top_k: int = 5,
    every: float | None = None,
) -> Iterator[Classification | Failure]:
    """Score each clip, or each window of it, against the labels.

    Args:
        runtime: the model.
        paths: video files.
        labels: what to choose between; None takes `default_labels`.
        template: a text with ``{}`` where the label goes; None is "a video of {}", or the model's own
            (the bare label, unless its ``config.json`` names a template) where the labels are its own.
        top_k: how many labels to return, best first; scores still sum to 1 over all of them.
        every: seconds of a window; None scores whole clips.

    Raises:
        UsageError: a template without ``{}``, fewer than two labels, or one twice.
    """
    own = labels is None and runtime.files.config.labels is not None
    template = template or (runtime.files.config.extra.get("template", "{}") if own else TEMPLATE)
    if "{}" not in template:
        raise UsageError(f"--template must hold {{}} where the label goes, got {template!r}")
    names = list(labels) if labels is not None else default_labels(runtime)
    check_labels(names)
    texts = runtime.encode_texts([template.replace("{}", name) for name in names])
    scale = runtime.logit_scale
    for item in runtime.encode_videos(paths, every=every):
        if isinstance(item, Failure):
            yield item
            continue
        cosines = texts @ item.vector  # (N,)
        logits = scale * cosines
        odds = np.exp(logits - logits.max())
        shares = odds / odds.sum()
        best = np.argsort(-cosines, kind="stable")[:top_k]
        scores = tuple(Score(names[i], float(shares[i]), float(cosines[i])) for i in best)
        yield Classification(item.path, item.start, item.end, scores)


def default_labels(runtime: Runtime) -> list[str]:
    """Return the model's own labels, else the Kinetics-400 names."""
    return list(runtime.files.config.labels or kinetics400())


def kinetics400() -> list[str]:
    """Return the 400 action names of Kinetics (Kay et al. 2017)."""
    text = (package_files("stopcli") / "assets" / "kinetics400.txt").read_text(encoding="utf-8")
    return text.split("\n")[:400]


def read_labels(path: Path) -> list[str]:
    """Read labels from a text file, one a line; empty lines and lines with # are skipped.

    Raises:
        InputError: it cannot be read, or holds no label.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8") from error
    labels = [line.strip() for line in lines]
    labels = [line for line in labels if line and not line.startswith("#")]
    if not labels:
        raise InputError(f"{path}: no label in it; write one a line")
    return labels


def check_labels(labels: Sequence[str]) -> None:
    """Make sure there is something to choose between.

    Raises:
        UsageError: fewer than two labels, or one twice.
    """
    if len(labels) < 2:
        raise UsageError(f"two or more labels are needed to choose between, got {len(labels)}")
    twice = (
        sorted({name for name in labels if labels.count(name) > 1}) if len(set(labels)) < len(labels) else []
    )
    if twice:
        raise UsageError(f"label {twice[0]!r} is given twice")
