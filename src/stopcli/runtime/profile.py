"""What a model costs on its device: operations, memory, and the device's own matrix products.

Letters: B clips, T frames, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from stopcli.runtime.graphs import one_by_one

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder


def count_flops(encoder: Encoder, pixels: NDArray[np.uint8]) -> int:
    """Return the floating-point operations of embedding clips (B,T,S,S,3), as torch counts them."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # fused kernels are not all in torch's table of operations: the plain ones are
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            one_by_one(),
            FlopCounterMode(display=False) as counter,
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            encoder.forward(pixels)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())


def peak_memory(encoder: Encoder, pixels: NDArray[np.uint8]) -> float | None:
    """Return the most device memory (MiB) that embedding clips (B,T,S,S,3) takes; None on a CPU."""
    if encoder.device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(encoder.device)
    with one_by_one(), torch.inference_mode():
        encoder.forward(pixels)
    return float(torch.cuda.max_memory_allocated(encoder.device) / 2**20)


def matrix_product(encoder: Encoder, n: int) -> Callable[[], None]:
    """Return what multiplies two n x n matrices in the model's dtype, once, to the end."""
    a, b = (torch.randn(n, n, device=encoder.device, dtype=encoder.dtype) for _ in range(2))

    def work() -> None:
        torch.mm(a, b)
        if encoder.device.type == "cuda":
            torch.cuda.synchronize(encoder.device)

    return work
