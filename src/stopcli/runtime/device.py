"""Which devices and precisions there are, which to take, and whether a device computes right."""

from __future__ import annotations

import torch

from stopcli.errors import DeviceError
from stopcli.model.stop import Stop

AGREEMENT = 0.999  # cosine between a device's and the CPU's embedding of the same frames
CPU_TRAINING_BYTES = 4 << 30
CUDA_TOKENS = 75_264  # 128 clips of ViT-B/32: on an H100 714 clips/s, with 32 clips 387
BYTES_FOR_GRADIENTS = 136  # a token, channel and block, about: 34 fp32 values
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(precision: str) -> torch.dtype:
    """Return what tensors are of; in int8 they are so within linear layers only."""
    if precision == "int8":
        return torch.bfloat16 if _cpu_bf16() else torch.float32
    return DTYPES[precision]


def checked_device(name: str) -> torch.device:
    """Return the device of that name; raises DeviceError if the machine has none."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"--device must be auto, cpu, cuda, cuda:N or mps, got {name!r}") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available():
            raise DeviceError("no CUDA device found; use --device cpu, or look at 'stop doctor'")
        if (device.index or 0) >= count:
            raise DeviceError(f"no device {name}; this machine has cuda:0 to cuda:{count - 1}")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("no MPS device found; use --device cpu")
    elif device.type not in ("cpu", "mps"):
        raise DeviceError(f"--device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    return device


def choose_device(wanted: str, model: Stop, frames: int) -> tuple[torch.device, str]:
    """Return a device and the reason for it; MPS only if it agrees with the CPU. Raises DeviceError."""
    if wanted != "auto":
        return checked_device(wanted), "asked for"
    if torch.cuda.is_available():
        return torch.device("cuda"), "CUDA is available"
    if torch.backends.mps.is_available():
        try:
            cosine = agreement(model, frames, torch.device("mps"))
        except (RuntimeError, NotImplementedError) as error:  # an operation that this torch lacks there
            return torch.device("cpu"), f"MPS cannot run this model ({str(error)[:80]})"
        if cosine >= AGREEMENT:
            return torch.device("mps"), f"MPS agrees with the CPU (cosine {cosine:.5f})"
        return torch.device("cpu"), f"MPS disagrees with the CPU (cosine {cosine:.5f})"
    return torch.device("cpu"), "no GPU found"


def agreement(model: Stop, frames: int, device: torch.device) -> float:
    """Return the lowest cosine between fp32 embeddings of fixed noise on ``device`` and on the CPU.

    The model is left where it was, and can be trained: in inference mode, its parameters could not.
    """
    size = model.backbone.preprocess.size
    noise = torch.randn(2, frames, 3, size, size, generator=torch.Generator().manual_seed(0))
    home, dtype = next((p.device, p.dtype) for p in model.parameters())
    try:
        with torch.no_grad():
            model.to("cpu", torch.float32)
            reference = model.encode_video(noise)
            model.to(device)
            found = model.encode_video(noise.to(device)).cpu()
    finally:
        model.to(home, dtype)
    return float((reference * found).sum(-1).min())


def choose_precision(device: torch.device, wanted: str, *, trainable: bool = False) -> tuple[str, str]:
    """Return a precision and the reason for it: bf16 where the hardware is fast at it.

    Models are never trained in fp16 unless it is ``wanted``. DeviceError: the device does not have it.
    """
    if wanted == "int8" and device.type != "cpu":
        raise DeviceError(f"--precision int8 is for CPUs, got {device}; use bf16 or fp16")
    if wanted != "auto":
        return wanted, "asked for"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return "bf16", f"compute capability {major}.{minor} is fast at bf16"
        precision = "fp16" if major >= 7 and not trainable else "fp32"
        return precision, f"compute capability {major}.{minor} has no fast bf16"
    if device.type == "cpu":
        fast = _cpu_bf16()
        return ("bf16", f"this CPU has {fast}") if fast else ("fp32", "this CPU has no bf16 arithmetic")
    return "fp32", "MPS is safest in fp32"


def _cpu_bf16() -> str | None:
    """Name the CPU's bf16 instructions, if torch can tell of any."""
    for probe, name in (("_is_amx_tile_supported", "AMX"), ("_is_avx512_bf16_supported", "AVX512-BF16")):
        supported = getattr(torch.cpu, probe, None)
        if supported is not None and supported():
            return name
    return None


def default_batch(model: Stop, device: torch.device, frames: int, trainable: bool) -> int:
    """Return how many clips to compute at once; `Encoder.retry_smaller_batch` corrects it."""
    if device.type == "cuda" and (trainable or model.config is None):
        return 32
    if device.type != "cuda" and not trainable:
        return 4
    tower = model.tower
    tokens = frames * tower.grid[0] * tower.grid[1]
    if device.type == "cuda":  # prompts are many small kernels: a GPU needs more clips to be busy
        return max(16, min(128, CUDA_TOKENS // tokens))
    bytes_a_clip = tokens * tower.width * tower.depth * BYTES_FOR_GRADIENTS
    return max(1, min(128, CPU_TRAINING_BYTES // bytes_a_clip))


def device_name(device: torch.device) -> str:
    """Return a device's name and make: ``cuda (NVIDIA H200)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
