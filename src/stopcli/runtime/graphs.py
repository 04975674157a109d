"""CUDA graphs: the kernels of a model, recorded once for each shape of its input and then played back.

A prompted pass is many hundred small kernels, most of them shorter than it takes Python to start one: a
GPU that is fed one by one waits most of the time. Letters: B clips, T frames, S side in pixels, E embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from stopcli.model.stop import Stop

# recordings kept, those played last: each holds the memory that it computes in. A training needs four: its
# batches, those of its validation, and the last of both, which are smaller
MOST = 4
Encode = Callable[[Tensor], Tensor]
_paused = False


@contextmanager
def one_by_one() -> Iterator[None]:
    """Within, no recording is played or made: for what counts operations, or changes a model's methods."""
    global _paused
    before, _paused = _paused, True
    try:
        yield
    finally:
        _paused = before


def how_to_encode(model: Stop, device: torch.device, *, compiled: bool) -> Encode:
    """Return the quickest form of ``model.encode_video`` on a device."""
    if compiled:
        return torch.compile(model.encode_video)
    return Recorded(model) if device.type == "cuda" else model.encode_video


class Recorded:
    """``model.encode_video`` on CUDA: (B,T,3,S,S) -> (B,E), recorded when a shape comes for the second time.

    What cannot be recorded is computed kernel by kernel, as before. Weights may change in place between two
    calls, and so may the model's ``config``. A pass with gradients must have gone back before the next one
    begins: both compute in the same memory.
    """

    def __init__(self, model: Stop) -> None:
        self._model, self._lock = model, Lock()
        self._met: set[object] = set()
        self._plays: dict[object, Encode] = {}

    def __call__(self, pixels: Tensor) -> Tensor:
        model, trains = self._model, torch.is_grad_enabled() and self._model.training
        if _paused or (trains and _in_a_group()):
            return model.encode_video(pixels)
        modes = (model.training, torch.is_inference_mode_enabled(), torch.is_autocast_enabled())
        key = (pixels.shape, trains, *modes, model.config)
        with self._lock:
            if key not in self._met:
                self._met.add(key)
                return model.encode_video(pixels)
            if key not in self._plays:
                while len(self._plays) >= MOST:
                    del self._plays[next(iter(self._plays))]
                self._plays[key] = _record(model, pixels, trains=trains)
            self._plays[key] = play = self._plays.pop(key)
            return play(pixels)


def _in_a_group() -> bool:
    """Whether other processes train along: what NCCL's own thread asks the device spoils a recording."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _record(model: Stop, pixels: Tensor, *, trains: bool) -> Encode:
    """Return what plays a pass over such pixels; the generator of dropout is left as it was."""
    device = pixels.device
    state = torch.cuda.get_rng_state(device)
    try:
        with torch.cuda.device(device):  # recordings are made on the current one
            return _with_gradients(model, pixels) if trains else _without_gradients(model, pixels)
    except RuntimeError:  # too little memory, or an operation that makes the processor wait
        return model.encode_video
    finally:
        torch.cuda.set_rng_state(state, device)


def _without_gradients(model: Stop, pixels: Tensor) -> Encode:
    still, graph = pixels.clone(), torch.cuda.CUDAGraph()
    aside = torch.cuda.Stream(pixels.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(pixels.device))
    with torch.cuda.stream(aside):  # what is set up once for each stream is no part of the recording
        model.encode_video(still)
    torch.cuda.current_stream(pixels.device).wait_stream(aside)
    with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
        out = model.encode_video(still)

    def play(x: Tensor) -> Tensor:
        still.copy_(x)
        graph.replay()
        return out.clone()

    return play


class _Pass(nn.Module):
    """A pass with the parameters that train."""

    def __init__(self, model: Stop) -> None:
        super().__init__()
        self.prompts = model.prompts
        self.encode = model.encode_video

    def forward(self, pixels: Tensor) -> Tensor:
        return self.encode(pixels)


def _with_gradients(model: Stop, pixels: Tensor) -> Encode:
    with catch_warnings():  # of what earlier passes, which may still be held, cost on another stream
        simplefilter("ignore")
        play: Any = torch.cuda.make_graphed_callables(
            _Pass(model), (pixels.clone(),), allow_unused_input=True
        )
    for p in model.prompts.parameters():  # each pass writes its gradients to one place: copied from there
        if not p._backward_hooks:
            p.register_hook(torch.clone)

    def embed(x: Tensor) -> Tensor:
        out: Tensor = play(x).clone()
        return out

    return embed
