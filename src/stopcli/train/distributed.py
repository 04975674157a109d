"""Several processes training one model: launched by torchrun, joined by torch.distributed.

Alone, every function here does nothing. Letters: B clips of this process, N of all, E embedding.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


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
    if world_size() > 1 and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all processes (B,...) -> (N,...), in the order of the ranks, without gradient."""
    if world_size() == 1:
        return rows.detach()
    out = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(out, rows.detach().contiguous())
    return torch.cat(out)


def gather_objects(value: Any) -> list[Any]:
    """Return what each process has, in the order of the ranks."""
    if world_size() == 1:
        return [value]
    out: list[Any] = [None] * world_size()
    dist.all_gather_object(out, value)
    return out


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up each parameter's gradient over the processes."""
    if world_size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def broadcast(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give every process the first one's values."""
    with torch.no_grad():
        for parameter in parameters:
            dist.broadcast(parameter, 0)
