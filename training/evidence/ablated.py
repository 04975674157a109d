"""Run a module on a model that lacks a part: ``python -m training.evidence.ablated PART stopcli ...``.

``bound=0.6`` is no part, but another bound; ``bound=0.6+bias`` is that without a part; ``drops`` (or
``drops=0.15``), ``crop``, ``speed`` and ``smoothing`` add what the product does not have. It has no
switches for any of this.
"""

from __future__ import annotations

import math
import runpy
import sys
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from stopcli.model import motion, prompts, stop
from stopcli.model.towers.tower import Layout
from stopcli.train import batches, trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def without_motion() -> None:
    """Regions from attention and a network that begins anywhere, as in the paper."""

    class TemporalDynamics(prompts.TemporalDynamics):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            self.space.conv.reset_parameters()

    prompts.TemporalDynamics = TemporalDynamics  # type: ignore[misc]
    motion.Motion.strength = lambda self: torch.zeros_like(self.energy)  # type: ignore[method-assign]


def without_alignment() -> None:
    """Motion against a camera that is taken to stand still."""

    def still(grey: Tensor) -> tuple[Tensor, Tensor]:
        b, t = grey.shape[:2]
        return torch.eye(2, 3, device=grey.device).expand(b, t, 2, 3), grey.new_zeros(b, t - 1)

    motion.follow_camera = still
    motion.FINE = {}


def without_bound() -> None:
    """Spatial prompts of any size."""
    stop.bounded = lambda prompt, *_: prompt


def with_bound(share: float) -> None:
    """Spatial prompts of at most another share of the tokens' size, whatever the model's config says."""
    stop.bounded = lambda prompt, size, _: prompts.bounded(prompt, size, share)


def without_bias() -> None:
    """Regions that do not draw attention."""
    stop.beside_best = torch.zeros_like


def without_prompts() -> None:
    """Regions that draw attention, but get no prompts."""
    stop.bounded = lambda prompt, *_: 0 * prompt


def without_count_gradient() -> None:
    """Prompts that are there or not: the count has no gradient, so N^t is what it began as."""

    def mask(variation: Tensor, eta: int) -> Tensor:
        w = variation.detach().unsqueeze(-1)
        return torch.where(eta * w > torch.arange(eta, device=w.device), torch.zeros_like(w), stop.NEVER)

    stop.log_multiplicity = mask


def without_log_t() -> None:
    """A class token that counts once, however many frames there are."""
    stop.math = SimpleNamespace(**vars(math) | {"log": lambda _: 0.0})  # type: ignore[attr-defined]


def without_joint_attention() -> None:
    """Patches that attend to their own frame only, whatever the model's config says."""
    stop.Layout = lambda *where, **_: Layout(*where, joint=False)  # type: ignore[misc, assignment]


def with_drops(share: float = 0.4) -> None:
    """In training, each clip goes without temporal prompts in a ``share`` of the blocks."""
    temporal = stop.Stop._temporal

    def dropped(self: stop.Stop, *args: Any) -> Any:
        found = temporal(self, *args)
        if found is None or not self.training:
            return found
        kept = torch.rand(len(found.weight), 1, device=found.weight.device) >= share
        return found._replace(weight=found.weight.masked_fill(~kept, stop.NEVER))

    stop.Stop._temporal = dropped  # type: ignore[method-assign]


def with_smoothing() -> None:
    """A loss that leaves a tenth of the truth to the other labels."""
    import torch.nn.functional as F

    def smooth(videos: Tensor, classes: Tensor, truth: Tensor, scale: float) -> Tensor:
        return F.cross_entropy(scale * videos @ classes.T, truth, reduction="sum", label_smoothing=0.1)

    trainer.class_loss = smooth


def with_augmentation(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> None:
    """Clips (T,S,S,3) that are changed, each in another way, whenever they are seen."""
    before = batches.Batches._augmented

    def augmented(self: Any, step: int, place: int, row: Any) -> np.ndarray:
        rng = np.random.default_rng([self.schedule.seed, 9, step, place])
        return change(before(self, step, place, row), rng)

    batches.Batches._augmented = augmented  # type: ignore[method-assign]


def crop(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square of 60 to 100 % of the side, the same in all frames."""
    side = frames.shape[1]
    part = round(side * rng.uniform(0.6, 1.0))
    x, y = rng.integers(side - part + 1, size=2)
    box = (x, y, x + part, y + part)
    pictures = [Image.fromarray(f).resize((side, side), Image.Resampling.BILINEAR, box) for f in frames]
    return np.stack([np.asarray(p) for p in pictures])


def speed(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A part of 60 to 100 % of the clip, at a slower pace."""
    count = len(frames)
    length = rng.uniform(0.6, 1.0) * (count - 1)
    start = rng.uniform(0, count - 1 - length)
    return frames[np.linspace(start, start + length, count).round().astype(int)]


PARTS: dict[str, Callable[[], None]] = {
    "motion": without_motion,
    "alignment": without_alignment,
    "bound": without_bound,
    "bias": without_bias,
    "prompts": without_prompts,
    "counts": without_count_gradient,
    "log-t": without_log_t,
    "joint": without_joint_attention,
    "drops": with_drops,
    "smoothing": with_smoothing,
    "crop": partial(with_augmentation, crop),
    "speed": partial(with_augmentation, speed),
}

SIZES: dict[str, Callable[[float], None]] = {"bound": with_bound, "drops": with_drops}


def main() -> None:
    """Take a part away and hand over to the module."""
    part, module = sys.argv[1:3]
    del sys.argv[1:3]
    for change in part.split("+"):
        name, _, value = change.partition("=")
        if value:
            SIZES[name](float(value))
        else:
            PARTS[name]()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
