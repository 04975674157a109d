"""Which clips each step of a training sees, and at what learning rate.

All randomness of step i comes from (seed, i) and of epoch e from (seed, e), so that a resumed run sees
exactly what it would have seen. Letters: B clips of a batch, T frames, S side in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stopcli.data.table import Clip, Row, Task
from stopcli.errors import StopError, UsageError
from stopcli.train import distributed
from stopcli.train.history import VALIDATIONS
from stopcli.train.options import FinetuneOptions
from stopcli.video.cache import AROUND, FrameCache
from stopcli.video.pixels import Framing
from stopcli.video.workers.prefetch import prefetch

WARM_UP = 0.1  # share of the steps
LEAST_STEPS, LEAST_EPOCHS, MOST_EPOCHS = 300, 5, 300
BATCH_SIZE: dict[Task, int] = {"classification": 32, "retrieval": 128}
COLOR = 0.4  # how far brightness, contrast and saturation may be changed
Batch = tuple[list[Row], NDArray[np.uint8]]


@dataclass(frozen=True)
class Schedule:
    """How long to train, at what rate."""

    epochs: int
    steps_per_epoch: int
    batch_size: int
    lr: float
    seed: int

    @classmethod
    def plan(cls, task: Task, clips: int, options: FinetuneOptions) -> Schedule:
        """Return the schedule for so many clips; raises UsageError for more processes than clips a batch."""
        processes, size = distributed.world_size(), min(options.batch_size or BATCH_SIZE[task], clips)
        if size < processes:
            raise UsageError(
                f"a batch of {size} clips cannot be shared by {processes} processes; "
                f"use a larger --batch-size or at most {size} processes"
            )
        least = max(processes, 2 if task == "retrieval" else 1)  # one clip has nothing to contrast with
        per_epoch = clips // size + (clips % size >= least)
        suitable = max(LEAST_EPOCHS, min(MOST_EPOCHS, -(-LEAST_STEPS // per_epoch)))
        return cls(
            suitable if options.epochs is None else options.epochs, per_epoch, size, options.lr, options.seed
        )

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.epochs * self.steps_per_epoch

    @property
    def validate_every(self) -> int:
        """Steps between validations."""
        return max(1, self.epochs // VALIDATIONS) * self.steps_per_epoch

    def validates(self, step: int) -> bool:
        """Say whether the weights are scored after a step."""
        return step > 0 and (step % self.validate_every == 0 or step == self.steps)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then a cosine to zero."""
        warm = max(1, round(self.steps * WARM_UP))
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


@dataclass(frozen=True)
class ClipReader:
    """Reads clips as T frames of side S, each decoded once."""

    cache: FrameCache
    frames: int
    framing: Framing

    def read(self, clip: Clip) -> NDArray[np.uint8]:
        """Return all cached frames of a clip (3T,S,S,3); raises InputError where it cannot be read."""
        path, start, end = clip
        return self.cache.read(path, self.frames, self.framing, start, end)

    def content_of(self, clips: Iterable[Clip]) -> list[list[object]]:
        """Return what clips are, whatever their files are called: contents and seconds; raises InputError."""
        return [[self.cache.content_of(path), start, end] for path, start, end in clips]

    def centres(self, clips: Iterable[Clip]) -> NDArray[np.uint8]:
        """Return the clips' frames as every command sees them: (N,T,S,S,3)."""
        return np.stack([self.read(clip)[AROUND // 2 :: AROUND] for clip in clips])


class Batches:
    """The training clips, drawn class-balanced, one caption a video, never a video twice a batch."""

    def __init__(
        self,
        rows: Sequence[Row],
        schedule: Schedule,
        reader: ClipReader,
        *,
        by_class: bool,
        flip: bool,
        color: bool,
    ) -> None:
        self.schedule = schedule
        self._reader, self._flip, self._color = reader, flip, color
        grouped: dict[object, list[Row]] = {}
        for row in rows:
            grouped.setdefault(row.text if by_class else row.clip, []).append(row)
        self._groups = list(grouped.values())
        self._count = len(rows) if by_class else len(self._groups)
        self._order = lru_cache(maxsize=2)(self.epoch)  # steps are read ahead, by two threads

    def epoch(self, number: int) -> list[Row]:
        """Return the rows of an epoch in order: each class as often, or each video once."""
        rng = np.random.default_rng([self.schedule.seed, 3, number])
        quota = math.ceil(self._count / len(self._groups))  # 1 where a group is a video
        drawn: list[Row] = []
        for group in self._groups:
            rounds = [rng.permutation(len(group)) for _ in range(math.ceil(quota / len(group)))]
            drawn += [group[i] for i in np.concatenate(rounds)[:quota]]
        return [drawn[i] for i in rng.permutation(len(drawn))[: self._count]]

    def load(self, step: int) -> Batch:
        """Return a step's rows, and this process's share of their frames, augmented: (B',T,S,S,3)."""
        epoch, within = divmod(step, self.schedule.steps_per_epoch)
        size, processes = self.schedule.batch_size, distributed.world_size()
        rows = self._order(epoch)[within * size : (within + 1) * size]
        rows = rows[: len(rows) // processes * processes]
        return rows, np.stack([self._augmented(step, i, rows[i]) for i in distributed.share(len(rows))])

    def ahead(self, first: int) -> Generator[Batch, None, None]:
        """Yield the batches from step ``first`` on, read ahead of their use."""
        for _, item in prefetch(lambda step: [self.load(step)], range(first, self.schedule.steps), workers=2):
            if isinstance(item, StopError):
                raise item
            yield item

    def _augmented(self, step: int, place: int, row: Row) -> NDArray[np.uint8]:
        """Jitter the frames' times within their segments; mirror half of the clips; change the colors."""
        rng = np.random.default_rng([self.schedule.seed, 4, step, place])
        frames = self._reader.frames
        chosen = np.arange(frames) * AROUND + rng.integers(AROUND, size=frames)
        picked: NDArray[np.uint8] = self._reader.read(row.clip)[chosen]
        picked = picked[:, :, ::-1] if self._flip and rng.random() < 0.5 else picked
        return recolored(picked, rng) if self._color else picked


def recolored(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return frames (T,S,S,3) in another light: brightness, contrast and saturation differ by up to 40 %.

    They do so alike in all frames, so that nothing seems to happen that does not.
    """
    light, contrast, saturation = rng.uniform(1 - COLOR, 1 + COLOR, 3)
    x = frames * np.float32(light)
    middle = x.mean()
    grey = (x.mean(-1, keepdims=True) - middle) * np.float32(contrast) + middle
    x = grey + (x - x.mean(-1, keepdims=True)) * np.float32(contrast * saturation)
    out: NDArray[np.uint8] = x.clip(0, 255).astype(np.uint8)
    return out
