"""Several processes training one model: launched by torchrun, joined by torch.distributed.

Alone, every function here does nothing, and torch is not loaded. Letters: B clips of this process, N of all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
Key = TypeVar("Key")


def rank() -> int:
    """Return this process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return how many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Return this process's number on its machine: which GPU is its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def start(device: torch.device) -> None:
    """Join the other processes, over NCCL between GPUs, else over gloo."""
    if world_size() > 1 and not _dist().is_initialized():
        if device.type == "cuda":
            import torch

            torch.cuda.set_device(device)
        _dist().init_process_group("nccl" if device.type == "cuda" else "gloo")


def shutdown() -> None:
    """Leave the other processes."""
    if world_size() > 1 and _dist().is_initialized():
        _dist().destroy_process_group()


def every_nth(items: Sequence[T]) -> Sequence[T]:
    """Return this process's share of items whose order does not matter."""
    return items[rank() :: world_size()]


def share(count: int) -> range:
    """Return which of the ``count`` clips of a batch are this process's."""
    each = count // world_size()
    return range(rank() * each, (rank() + 1) * each)


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all processes (B,...) -> (N,...), in the order of the ranks, without gradient."""
    if world_size() == 1:
        return rows.detach()
    out = rows.new_empty((world_size(), *rows.shape))
    _dist().all_gather(list(out), rows.detach().contiguous())
    return out.flatten(0, 1)


def gather_dict(own: dict[Key, T]) -> dict[Key, T]:
    """Return the entries of all processes."""
    parts: list[Any] = [own] * world_size()
    if world_size() > 1:
        _dist().all_gather_object(parts, own)
    return {key: value for part in parts for key, value in part.items()}


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up each parameter's gradient over the processes."""
    for parameter in parameters if world_size() > 1 else ():
        if parameter.grad is None:
            parameter.grad = parameter.new_zeros(parameter.shape)
        _dist().all_reduce(parameter.grad)


def broadcast(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give every process the first one's values."""
    for parameter in parameters if world_size() > 1 else ():
        _dist().broadcast(parameter.detach(), 0)


def _dist() -> Any:
    import torch.distributed

    return torch.distributed
