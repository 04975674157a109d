"""One step of training, and a state that can be taken up again.

A state is the weights, the optimiser's state and a step number: all randomness of a step comes from the
seed and the step's number, so a resumed run repeats exactly what was lost.
Letters: B clips of a batch over all processes, B' of this one, T frames, S side, E embedding size.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stopcli.data.table import Row
from stopcli.errors import CheckpointError, TrainingDiverged
from stopcli.fileio import is_file, replacing
from stopcli.train import distributed
from stopcli.train.batches import Schedule
from stopcli.train.losses import class_loss, contrastive_loss

if TYPE_CHECKING:
    import torch

    from stopcli.runtime.encoder import Encoder

BETAS, EPS, WEIGHT_DECAY, CLIP_NORM = (0.9, 0.98), 1e-6, 0.2, 1.0  # as STOP's authors
GAMMA_PACE = 50.0  # its learning rate, in those of the others


class Trainer:
    """Prompts being trained on a frozen backbone, by an encoder that was loaded with ``trainable``.

    ``texts`` holds the sentence to embed for each label or caption of the rows. The loss is cross-entropy
    over all of them with ``by_class``, else symmetric InfoNCE within the batch.
    """

    def __init__(
        self, encoder: Encoder, schedule: Schedule, texts: dict[str, str], *, by_class: bool
    ) -> None:
        import torch

        self.encoder, self.schedule, self._by_class = encoder, schedule, by_class
        self._text_ids = {text: i for i, text in enumerate(texts)}
        self._texts = encoder.to_device(encoder.encode_texts(list(texts.values())))  # (C,E)
        self.parameters = dict(encoder.model.prompts.named_parameters())
        groups = parameter_groups(self.parameters, WEIGHT_DECAY)
        self._optimizer = torch.optim.AdamW(groups, lr=schedule.lr, betas=BETAS, eps=EPS)
        self.step_number = 0

    def step(self, rows: Sequence[Row], pixels: NDArray[np.uint8]) -> float:
        """Take a step on a batch's rows (B) and this process's frames of it (B',T,S,S,3); return the loss.

        Raises TrainingDiverged, with the weights as before, where it is not finite.
        """
        from torch.nn.utils import clip_grad_norm_

        loss = self.gradients(rows, pixels)
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the loss became {loss} at step {self.step_number + 1}; the best weights so far are kept. "
                f"Try a smaller --lr (it was {self.schedule.lr:g}) or --precision fp32"
            )
        clip_grad_norm_(self.parameters.values(), CLIP_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step_number) * group["pace"]
        self._optimizer.step()
        self.step_number += 1
        return loss

    def gradients(self, rows: Sequence[Row], pixels: NDArray[np.uint8]) -> float:
        """Set the gradients of the whole batch's loss; return the loss. Arguments are those of `step`."""
        self.encoder.model.train(True)
        add_up = self._class_gradients if self._by_class else self._contrastive_gradients
        loss = self.encoder.retry_smaller_batch(lambda: add_up(rows, pixels))
        distributed.sum_gradients(self.parameters.values())
        return loss

    def seconds_a_step(self, rows: Sequence[Row], pixels: NDArray[np.uint8]) -> float:
        """Return how long a step takes; it is computed, not taken. Arguments are those of `step`."""
        began = 0.0
        for _ in range(3 if self.encoder.device.type == "cuda" else 2):  # there the second is recorded
            began = time.monotonic()
            self.gradients(rows, pixels)
        return time.monotonic() - began

    def _class_gradients(self, rows: Sequence[Row], pixels: NDArray[np.uint8]) -> float:
        """Cross-entropy is a sum over clips, so the gradients of pieces that fit into memory add up."""
        import torch

        self._optimizer.zero_grad()
        truth = self._ids([rows[i] for i in distributed.share(len(rows))])
        size = self.encoder.batch_size
        total = torch.zeros(1, device=truth.device)
        for i in range(0, len(pixels), size):
            videos = self._embed(pixels[i : i + size], i // size)
            loss = class_loss(videos, self._texts, truth[i : i + size], self.encoder.logit_scale) / len(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return float(distributed.gather_rows(total).sum())

    def _contrastive_gradients(self, rows: Sequence[Row], pixels: NDArray[np.uint8]) -> float:
        """The contrastive batch is as large as asked, whatever the memory (GradCache, arXiv 2101.06983).

        Each piece is embedded without gradient first; the loss of all embeddings gives the gradient of
        each of them; then each piece is embedded again, with gradient.
        """
        import torch

        self._optimizer.zero_grad()
        pieces = np.split(pixels, range(self.encoder.batch_size, len(pixels), self.encoder.batch_size))
        if len(pieces) == 1:
            mine = self._embed(pixels, 0)
            loss = self._contrastive_loss(rows, mine)
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())
        with torch.no_grad():
            mine = torch.cat([self._embed(piece, i) for i, piece in enumerate(pieces)])
        mine.requires_grad_(True)
        loss = self._contrastive_loss(rows, mine)
        (gradient,) = torch.autograd.grad(loss, mine)
        for i, (piece, part) in enumerate(zip(pieces, torch.split(gradient, len(pieces[0])), strict=True)):
            self._embed(piece, i).backward(part)  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _contrastive_loss(self, rows: Sequence[Row], mine: torch.Tensor) -> torch.Tensor:
        """Return the loss of all processes' embeddings, with a gradient for this process's (B',E)."""
        import torch

        videos = distributed.gather_rows(mine)  # (B,E)
        own, ids = distributed.share(len(rows)), self._ids(rows)
        videos = torch.cat([videos[: own.start], mine, videos[own.stop :]])
        return contrastive_loss(videos, self._texts[ids], ids, self.encoder.logit_scale)

    def _ids(self, rows: Sequence[Row]) -> torch.Tensor:
        return self.encoder.to_device(np.array([self._text_ids[r.text] for r in rows]))

    def _embed(self, pixels: NDArray[np.uint8], piece: int) -> torch.Tensor:
        import torch

        # dropout too is a function of the step: the second pass over a piece repeats the first
        seed = self.schedule.seed * 1_000_003 + self.step_number
        torch.manual_seed(seed * 4096 + distributed.rank() * 64 + piece)
        return self.encoder.forward(pixels)

    def save_state(self, file: Path, values: dict[str, Any]) -> None:
        """Write all that training goes on from, and ``values`` (plain ones); raises CannotWrite."""
        from safetensors.torch import save

        tensors = {f"weights.{n}": t for n, t in self.encoder.model.prompts.state_dict().items()}
        for i, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": t for name, t in moments.items()}
        tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        metadata = {"state": json.dumps(values | {"step": self.step_number})}
        with replacing(file, sync=True) as part:
            part.write_bytes(save(tensors, metadata))

    def restore(self, state: State) -> None:
        """Go back to where a state was saved; raises CheckpointError if it is of other prompts."""
        try:
            shapes = [p.shape for group in self._optimizer.param_groups for p in group["params"]]
            for i, moments in state.moments.items():
                if any(t.ndim and t.shape != shapes[i] for t in moments.values()):
                    raise ValueError("the optimizer's state is of other shapes")
            self.encoder.model.prompts.load_state_dict(state.weights)
            self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state.moments})
        except (RuntimeError, ValueError, IndexError, KeyError) as error:
            problem = "the saved state is of other prompts than these settings make"
            raise CheckpointError(f"{problem}; start over with --force") from error
        self.step_number = state.step


def parameter_groups(parameters: dict[str, torch.Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups of a model's prompts; ``pace`` multiplies the learning rate.

    Matrices decay. Gamma, one number a block in units of attention logits, has further to go than a weight.
    """
    groups = {
        (weight_decay, 1.0): [p for p in parameters.values() if p.ndim >= 2],
        (0.0, 1.0): [p for n, p in parameters.items() if p.ndim < 2 and n != "gamma"],
        (0.0, GAMMA_PACE): [p for n, p in parameters.items() if n == "gamma"],
    }
    return [{"params": p, "weight_decay": d, "pace": pace} for (d, pace), p in groups.items() if p]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Do what belongs together to its end before Ctrl-C counts; a second one counts at once."""
    held: list[int] = []

    def hold(number: int, _: object) -> None:
        if held:
            raise KeyboardInterrupt
        held.append(number)

    apart = threading.current_thread() is not threading.main_thread()  # signals reach the main thread only
    if apart or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):  # ignored, as in the background
        yield
        return
    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


@dataclass
class State:
    """What `Trainer.save_state` wrote."""

    step: int
    weights: dict[str, torch.Tensor]
    moments: dict[int, dict[str, torch.Tensor]]  # of the optimizer, by parameter
    values: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> State:
        """Read a state; raises CheckpointError if it is damaged.

        All is copied: what is mapped cannot be replaced on Windows.
        """
        from safetensors import SafetensorError, safe_open

        weights, moments = {}, defaultdict[int, dict[str, Any]](dict)
        try:
            if not is_file(file):  # a pipe would be waited for
                raise OSError("no file")
            with safe_open(file, "pt") as tensors:
                values = json.loads(tensors.metadata()["state"])
                for name in tensors.keys():  # noqa: SIM118
                    kind, _, rest = name.partition(".")
                    if kind == "weights":
                        weights[rest] = tensors.get_tensor(name).clone()
                    else:
                        i, _, moment = rest.partition(".")
                        moments[int(i)][moment] = tensors.get_tensor(name).clone()
            step = values.pop("step")
            if type(step) is not int or step < 0:
                raise ValueError("no state of a training")
            every = [*weights.values(), *(t for moment in moments.values() for t in moment.values())]
            if not all(bool(t.isfinite().all()) for t in every):
                raise ValueError("it holds numbers that are not finite")
            return cls(step, weights, moments, values)
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            raise CheckpointError(f"{file}: damaged ({error}); start over with --force") from error
