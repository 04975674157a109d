"""Scoring text-video retrieval from vectors: used while training and by the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.data.table import Row, unique_clips
from stopcli.eval.metrics import best_ranks, cross_entropy, retrieval_scores, share_interval

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder


def caption_ranks(
    videos: NDArray[np.float32],
    texts: NDArray[np.float32],
    owner: NDArray[np.int64],
    captions: Sequence[str] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ranks of text-to-video (Q,) and video-to-text (V,) retrieval of videos (V,E) and texts (Q,E).

    ``owner`` (Q,) says which video each text belongs to; each has one. A video with several captions is found
    by each of them, and finds them all at once: by the best of them, among those of the other videos, as
    CLIP4Clip counts. With ``captions`` (Q,), what the texts say, videos that share a caption are all right
    for it, and a video's best caption has its rank among all captions.
    """
    scores = texts @ videos.T
    if captions is None:
        best = np.full((len(videos), len(videos)), -np.inf, scores.dtype)
        np.maximum.at(best, owner, scores)  # (V,V): of each video's captions, for each video
        return best_ranks(scores, owner[:, None] == np.arange(len(videos))), best_ranks(
            best.T, np.eye(len(videos), dtype=bool)
        )
    numbers = {name: i for i, name in enumerate(dict.fromkeys(captions))}
    said = np.array([numbers[name] for name in captions])
    shown = np.zeros((len(numbers), len(videos)), bool)
    shown[said, owner] = True
    own = shown[said]  # (Q,V)
    return best_ranks(scores, own), best_ranks(scores.T, own.T)


def caption_scores(
    encoder: Encoder, vectors: NDArray[np.float32], rows: Sequence[Row]
) -> tuple[dict[str, float], tuple[float, float], float]:
    """Return text-to-video scores, the 95 % interval of R@1 and the contrastive loss of captioned clips.

    ``vectors`` (N,E) has one a row; rows of one clip have the same. ``encoder`` embeds the captions.
    """
    clip_ids = {clip: i for i, clip in enumerate(unique_clips(rows))}
    owner = np.array([clip_ids[r.clip] for r in rows])
    videos = vectors[np.unique(owner, return_index=True)[1]]
    captions = [r.text for r in rows]
    texts = encoder.encode_texts(captions)
    forward, _ = caption_ranks(videos, texts, owner, captions)
    loss = cross_entropy(encoder.logit_scale * texts @ videos.T, owner)
    return retrieval_scores(forward), share_interval(forward <= 1, owner.tolist()), loss
