"""Training the prompts: batches, losses, one step, and a state that can be taken up again.

All randomness of step i comes from (seed, i) and of epoch e from (seed, e), so a state is weights,
the optimiser's moments and a step number, and a resumed run repeats exactly what was lost.
Letters: B clips of a batch over all processes, T frames, S side, C classes, E embedding size.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stopcli.errors import CheckpointError, TrainingDiverged
from stopcli.train import distributed as parallel
from stopcli.video.cache import AROUND
from stopcli.video.prefetch import prefetch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from stopcli.data.table import Row
    from stopcli.runtime.encoder import Encoder
    from stopcli.video.cache import FrameCache

STATE_FILE = ".state.safetensors"
BETAS, EPS, WEIGHT_DECAY, CLIP_NORM, WARM_UP = (0.9, 0.98), 1e-6, 0.2, 1.0, 0.1  # as STOP's authors


@dataclass(frozen=True)
class Schedule:
    """How long to train, at what rate."""

    epochs: int
    steps_per_epoch: int
    batch_size: int
    lr: float
    seed: int

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.epochs * self.steps_per_epoch

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then a cosine to zero."""
        warm = max(1, round(self.steps * WARM_UP))
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


class Batches:
    """The training clips, drawn class-balanced, one caption a video, never a video twice a batch."""

    def __init__(
        self,
        rows: Sequence[Row],
        schedule: Schedule,
        cache: FrameCache,
        encoder: Encoder,
        *,
        by_class: bool,
        flip: bool,
    ) -> None:
        self.schedule = schedule
        self._cache, self._frames, self._size = cache, encoder.frames, encoder.size
        self._by_class, self._flip = by_class, flip
        grouped: dict[object, list[Row]] = {}
        for row in rows:
            grouped.setdefault(row.text if by_class else row.clip, []).append(row)
        self._groups = list(grouped.values())
        self._count = len(rows) if by_class else len(self._groups)

    def epoch(self, number: int) -> list[Row]:
        """Return the rows of an epoch in order: each class as often, or each video once."""
        rng = np.random.default_rng([self.schedule.seed, 3, number])
        if self._by_class:
            quota = math.ceil(self._count / len(self._groups))
            drawn = [g[i] for g in self._groups for i in _cycled(rng, len(g), quota)]
        else:
            drawn = [g[rng.integers(len(g))] for g in self._groups]
        return [drawn[i] for i in rng.permutation(len(drawn))[: self._count]]

    def rows(self, step: int) -> list[Row]:
        """Return the rows of a step's batch, over all processes."""
        epoch, within = divmod(step, self.schedule.steps_per_epoch)
        size = self.schedule.batch_size
        batch = self.epoch(epoch)[within * size : (within + 1) * size]
        return batch[: len(batch) // parallel.world_size() * parallel.world_size()]

    def load(self, step: int) -> tuple[list[Row], NDArray[np.uint8]]:
        """Return a step's rows, and this process's share of their frames, augmented: (B',T,S,S,3)."""
        rows = self.rows(step)
        return rows, np.stack([self._augmented(step, i, rows[i]) for i in share(len(rows))])

    def ahead(self, first: int) -> Generator[tuple[list[Row], NDArray[np.uint8]], None, None]:
        """Yield the batches from step ``first`` on, read ahead of their use."""
        for _, item in prefetch(lambda step: [self.load(step)], range(first, self.schedule.steps), workers=2):
            if isinstance(item, Exception):
                raise item
            yield item

    def _augmented(self, step: int, place: int, row: Row) -> NDArray[np.uint8]:
        """Jitter the frames' times within their segments; mirror half of the clips."""
        rng = np.random.default_rng([self.schedule.seed, 4, step, place])
        held = self._cache.read(row.path, self._frames, self._size, row.start, row.end)
        picked: NDArray[np.uint8] = held[
            np.arange(self._frames) * AROUND + rng.integers(AROUND, size=self._frames)
        ]
        return picked[:, :, ::-1] if self._flip and rng.random() < 0.5 else picked


def _cycled(rng: np.random.Generator, count: int, wanted: int) -> list[int]:
    out: list[int] = []
    while len(out) < wanted:
        out += rng.permutation(count).tolist()
    return out[:wanted]


def share(count: int) -> range:
    """Return which of ``count`` items are this process's."""
    each = count // parallel.world_size()
    return range(parallel.rank() * each, (parallel.rank() + 1) * each)


class Trainer:
    """Prompts being trained on a frozen backbone.

    Args:
        encoder: loaded with ``trainable``.
        schedule: how long, at what rate.
        texts: what the rows' texts are called to the model, by text; embedded once.
        by_class: cross-entropy over all ``texts``; else symmetric InfoNCE within the batch.
    """

    def __init__(
        self, encoder: Encoder, schedule: Schedule, texts: dict[str, str], *, by_class: bool
    ) -> None:
        import torch

        self.encoder, self.schedule, self._by_class = encoder, schedule, by_class
        self._place = {text: i for i, text in enumerate(texts)}
        self._texts = encoder.to_device(encoder.encode_texts(list(texts.values())))  # (C,E)
        self.parameters = dict(encoder.model.prompts.named_parameters())
        matrices = [p for p in self.parameters.values() if p.ndim >= 2]
        others = [p for p in self.parameters.values() if p.ndim < 2]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
            lr=schedule.lr, betas=BETAS, eps=EPS,
        )  # fmt: skip
        self.step_number = 0

    def step(self, rows: Sequence[Row], pixels: NDArray[np.uint8]) -> float:
        """Take one step on a batch; return its loss over all processes.

        Args:
            rows: of the whole batch (B).
            pixels: this process's share (B',T,S,S,3).

        Raises:
            TrainingDiverged: the loss is not finite; the weights are as before.
        """
        import torch

        self.encoder.model.train(True)
        self._optimizer.zero_grad(set_to_none=True)
        loss = self.encoder.retry_smaller_batch(lambda: self._gradients(rows, pixels))
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the loss became {loss} at step {self.step_number + 1}; the weights of before are kept. "
                f"Try a smaller --lr (it was {self.schedule.lr:g}) or --precision fp32"
            )
        parallel.sum_gradients(self.parameters.values())
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), CLIP_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step_number)
        self._optimizer.step()
        self.step_number += 1
        return loss

    def _gradients(self, rows: Sequence[Row], pixels: NDArray[np.uint8]) -> float:
        """Compute the gradients of the whole batch's loss, piece by piece where it does not fit.

        Cross-entropy is a sum over clips, so its pieces just add up. For the contrastive loss
        each piece is embedded without gradient first; the loss of all embeddings tells each its
        gradient; then each piece is embedded again, with gradient (GradCache, arXiv 2101.06983).
        So the contrastive batch is as large as asked, whatever the memory.
        """
        import torch

        size = self.encoder.batch_size
        pieces = [pixels[i : i + size] for i in range(0, len(pixels), size)]
        if len(pieces) == 1:
            mine = self._embed(pieces[0], 0)
            loss = self._loss(rows, mine)
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())
        if self._by_class:
            own = [rows[i] for i in share(len(rows))]
            parts = [
                self._add_up(piece, own[i * size : (i + 1) * size], i, len(rows))
                for i, piece in enumerate(pieces)
            ]
            return float(parallel.gather_rows(torch.stack(parts).sum()[None]).sum())
        with torch.no_grad():
            mine = torch.cat([self._embed(piece, i) for i, piece in enumerate(pieces)])
        mine.requires_grad_(True)
        loss = self._loss(rows, mine)
        (gradient,) = torch.autograd.grad(loss, mine)
        for i, (piece, part) in enumerate(zip(pieces, torch.split(gradient, size), strict=True)):
            self._embed(piece, i).backward(part)  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _add_up(self, pixels: NDArray[np.uint8], rows: Sequence[Row], piece: int, total: int) -> torch.Tensor:
        """Add the gradient of a piece's share of the cross-entropy; return that share."""
        import torch.nn.functional as F

        truth = self.encoder.to_device(np.array([self._place[r.text] for r in rows]))
        logits = self.encoder.logit_scale * self._embed(pixels, piece) @ self._texts.T
        loss = F.cross_entropy(logits, truth, reduction="sum") / total
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _embed(self, pixels: NDArray[np.uint8], piece: int) -> torch.Tensor:
        import torch

        # dropout too is a function of the step: the second pass over a piece repeats the first
        torch.manual_seed(
            (self.schedule.seed * 1_000_003 + self.step_number) * 4096 + parallel.rank() * 64 + piece
        )
        return self.encoder.forward(pixels)

    def _loss(self, rows: Sequence[Row], mine: torch.Tensor) -> torch.Tensor:
        """Return the loss of all processes' embeddings, with a gradient for this process's (B',E)."""
        import torch
        import torch.nn.functional as F

        videos = parallel.gather_rows(mine)  # (B,E)
        own = share(len(rows))
        videos = torch.cat([videos[: own.start], mine, videos[own.stop :]])
        truth = self.encoder.to_device(np.array([self._place[r.text] for r in rows]))
        scale = self.encoder.logit_scale
        if self._by_class:
            return F.cross_entropy(scale * videos @ self._texts.T, truth)
        logits = scale * videos @ self._texts[truth].T  # (B,B)
        same = truth[:, None] == truth  # two videos that say the same are no negatives of each other
        logits = logits.masked_fill(
            same & ~torch.eye(len(rows), dtype=torch.bool, device=same.device), -math.inf
        )
        diagonal = torch.arange(len(rows), device=logits.device)
        return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2

    # ---------------------------------------------------------------------------------- state

    def save_state(self, folder: Path, more: dict[str, Any]) -> None:
        """Write weights, moments, step number and ``more`` (plain values), all or nothing."""
        from safetensors.torch import save_file

        tensors = {}
        for name, parameter in self.parameters.items():
            tensors[f"weight.{name}"] = parameter.detach().cpu().contiguous()
            moments = self._optimizer.state.get(parameter)
            if moments:
                tensors[f"first.{name}"] = moments["exp_avg"].cpu().contiguous()
                tensors[f"second.{name}"] = moments["exp_avg_sq"].cpu().contiguous()
        part = folder / f"{STATE_FILE}.part"
        save_file(tensors, part, metadata={"state": json.dumps(more | {"step": self.step_number})})
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(part, folder / STATE_FILE)

    def load_state(self, folder: Path) -> dict[str, Any]:
        """Take up a state; return the plain values saved with it.

        Raises:
            CheckpointError: it is damaged or of other prompts.
        """
        import torch
        from safetensors import SafetensorError, safe_open

        file = folder / STATE_FILE
        try:
            with safe_open(file, "pt") as held:
                more: dict[str, Any] = json.loads(held.metadata()["state"])
                tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            raise CheckpointError(f"{file}: damaged ({error}); start anew with --force") from error
        if {n.removeprefix("weight.") for n in tensors if n.startswith("weight.")} != set(self.parameters):
            raise CheckpointError(f"{file}: of other prompts than these settings make")
        self.step_number = int(more.pop("step"))
        for name, parameter in self.parameters.items():
            with torch.no_grad():
                parameter.copy_(tensors[f"weight.{name}"])
            if f"first.{name}" in tensors:
                self._optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.step_number)),
                    "exp_avg": tensors[f"first.{name}"].to(parameter.device),
                    "exp_avg_sq": tensors[f"second.{name}"].to(parameter.device),
                }
        return more


def clip_frames(cache: FrameCache, rows: Iterable[Row], frames: int, size: int) -> NDArray[np.uint8]:
    """Return the clips' frames as every command sees them: (N,T,S,S,3)."""
    return np.stack([cache.read(r.path, frames, size, r.start, r.end)[AROUND // 2 :: AROUND] for r in rows])
