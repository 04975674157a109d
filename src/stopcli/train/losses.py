"""What training makes small. Letters: B clips of a batch, C classes, E embedding size.

Vectors have unit length; ``scale`` is CLIP's temperature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def guessing_loss(losses: Sequence[float], choices: int) -> float | None:
    """Return ln(choices), the loss of guessing, if the mean of losses is within 2 % of it; else None."""
    chance = math.log(choices)
    return chance if abs(sum(losses) / len(losses) - chance) <= 0.02 * chance else None


def class_loss(videos: Tensor, classes: Tensor, truth: Tensor, scale: float) -> Tensor:
    """Return the sum over clips (B,E) of the cross-entropy over classes (C,E); truth (B,) are indices."""
    import torch.nn.functional as F

    return F.cross_entropy(scale * videos @ classes.T, truth, reduction="sum")


def contrastive_loss(videos: Tensor, captions: Tensor, caption_ids: Tensor, scale: float) -> Tensor:
    """Return the symmetric InfoNCE loss of clips (B,E) and their captions (B,E): the mean of both directions.

    Two clips with the same caption, by ``caption_ids`` (B,), are no negatives of each other.
    """
    import torch
    import torch.nn.functional as F

    own = torch.arange(len(videos), device=videos.device)
    same = caption_ids[:, None] == caption_ids
    same[own, own] = False
    logits = (scale * videos @ captions.T).masked_fill(same, -math.inf)  # (B,B)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
