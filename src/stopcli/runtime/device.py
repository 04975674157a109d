"""Which devices and precisions there are, and which to take."""

from __future__ import annotations

import torch

from stopcli.errors import DeviceError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def checked_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        DeviceError: the machine has no such device.
    """
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


def choose_precision(device: torch.device, wanted: str) -> tuple[str, str]:
    """Return a precision and the reason for it: bf16 where the hardware is fast at it."""
    if wanted != "auto":
        return wanted, "asked for"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return "bf16", f"compute capability {major}.{minor} is fast at bf16"
        return ("fp16" if major >= 7 else "fp32"), f"compute capability {major}.{minor} has no fast bf16"
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


def device_name(device: torch.device) -> str:
    """Return a device's name and make: ``cuda (NVIDIA H200)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
