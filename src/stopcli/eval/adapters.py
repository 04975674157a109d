"""The simplest ways to learn labels from clips, without prompts: what more has to be better than.

Letters: N clips, C labels, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stopcli.runtime.head import Head, fit_head

PIXELS = 12  # a side of the picture that a clip is reduced to


def pixel_vector(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean picture of a clip (T,S,S,3), 12 by 12 pixels, as a vector of unit length.

    No model sees it. Where it tells labels apart, the clips of a label are alike in what is not meant: the
    place, the light, the camera.
    """
    each = frames.shape[1] // PIXELS
    mean = frames.mean(0, dtype=np.float32)[: each * PIXELS, : each * PIXELS] - 127.5
    small = mean.reshape(PIXELS, each, PIXELS, each, 3).mean((1, 3)).ravel()
    out: NDArray[np.float32] = small / max(1e-6, float(np.linalg.norm(small)))
    return out


def simple_heads(
    labels: Sequence[str], texts: NDArray[np.float32], clips: NDArray[np.float32], truth: NDArray[np.int64]
) -> dict[str, Head]:
    """Return the nearest class mean and a linear probe, learnt from clips (N,E) of the classes ``truth`` (N).

    The probe is a ridge regression, whose strength is the one at which each clip is predicted best from all
    others. Nothing is returned where a label has no clip. ``texts`` (C,E) are the labels in words.
    """
    if len(np.unique(truth)) < len(labels):
        return {}
    means = np.stack([clips[truth == label].mean(0) for label in range(len(labels))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    heads = {"nearest class mean": Head(tuple(labels), means, np.zeros(len(labels), np.float32))}
    probe = fit_head(labels, texts, clips, truth, kind="prototype").head
    return heads if probe is None else heads | {"linear probe": probe}
