"""What both trainings share: their options, optimizer, schedule and log."""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

WEIGHT_DECAY = 0.05


def options(doc: str | None, *, steps: int, batch: int, lr: float, clips: str) -> argparse.ArgumentParser:
    """Return a parser of the options of both; ``clips`` is the set that is trained on by default."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("data", type=Path, help="the folder that training.mini.cache has filled")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--lr", type=float, default=lr)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", default=clips, help="stills, train or varied")
    parser.add_argument("--init", type=Path, help="weights to start from")
    return parser


def seeded(seed: int) -> np.random.Generator:
    """Seed torch and random, and return NumPy's generator."""
    torch.manual_seed(seed)
    random.seed(seed)
    return np.random.default_rng(seed)


class Loop:
    """AdamW with a warm-up and half a cosine, gradients clipped to 1, and a log of JSON lines.

    Args:
        groups: of parameters, as AdamW takes them; ``pace`` multiplies the learning rate.
        clipped: the parameters whose gradients are clipped.
        args: of `options`.
        warm: steps of the warm-up.
    """

    def __init__(
        self, groups: Iterable, clipped: Iterable[torch.Tensor], args: argparse.Namespace, warm: int
    ) -> None:
        self._clipped = list(clipped)
        groups = [g | {"lr": args.lr * g.get("pace", 1.0)} for g in groups]
        self._optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, weight_decay=WEIGHT_DECAY)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda i: min((i + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1, i / args.steps)))),
        )
        self._began = time.time()
        args.output.mkdir(parents=True, exist_ok=True)
        self._log = (args.output / "log.jsonl").open("w")

    def step(self, loss: torch.Tensor) -> None:
        """Go one step down the gradient of a loss."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._clipped, 1.0)
        self._optimizer.step()
        self._schedule.step()

    def report(self, **figures: float) -> None:
        """Print a line of figures and add it to OUTPUT/log.jsonl."""
        figures["seconds"] = time.time() - self._began
        line = json.dumps({k: round(float(v), 4) for k, v in figures.items()})
        print(line, flush=True)
        self._log.write(line + "\n")
        self._log.flush()
