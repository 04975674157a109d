"""What training makes small. Letters: B clips of a batch, C classes, E embedding size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def class_loss(videos: Tensor, classes: Tensor, truth: Tensor, scale: float) -> Tensor:
    """Return the sum over clips of the cross-entropy over the classes.

    Args:
        videos: (B,E), unit length.
        classes: (C,E), unit length.
        truth: (B,) indices of classes.
        scale: CLIP's temperature.
    """
    import torch.nn.functional as F

    return F.cross_entropy(scale * videos @ classes.T, truth, reduction="sum")


def contrastive_loss(videos: Tensor, captions: Tensor, caption_ids: Tensor, scale: float) -> Tensor:
    """Return the symmetric InfoNCE loss of clips and their captions: the mean of both directions.

    Two clips with the same caption are no negatives of each other.

    Args:
        videos: (B,E), unit length.
        captions: (B,E), unit length.
        caption_ids: (B,): equal where the captions are.
        scale: CLIP's temperature.
    """
    import torch
    import torch.nn.functional as F

    own = torch.arange(len(videos), device=videos.device)
    same = caption_ids[:, None] == caption_ids
    same[own, own] = False
    logits = (scale * videos @ captions.T).masked_fill(same, -math.inf)  # (B,B)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
