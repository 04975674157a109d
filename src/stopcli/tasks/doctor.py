"""What this installation is, and whether its device computes what the CPU computes."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import stopcli
from stopcli.hub.client import is_offline
from stopcli.hub.named import MINI
from stopcli.hub.registry import resolve
from stopcli.results import Diagnosis
from stopcli.settings import cache_folder, config_file, data_folder, default_model

PACKAGES = ("torch", "torchvision", "open_clip_torch", "av", "numpy", "huggingface_hub", "typer", "rich")
TIMEOUT = 5.0  # seconds to wait for the Hub


def diagnose(device: str = "auto", precision: str = "auto", *, offline: bool = False) -> Diagnosis:
    """Look at the machine, and compare the device with the CPU on fixed frames. Raises DeviceError."""
    import torch
    from huggingface_hub import constants

    from stopcli.runtime.device import AGREEMENT, agreement, device_name
    from stopcli.runtime.encoder import Encoder, EncoderOptions

    facts = {
        "stopcli": stopcli.__version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        **{name: version(name) for name in PACKAGES},
        "processors": str(os.cpu_count()),
        "threads of torch": str(torch.get_num_threads()),
        "cuda": _cuda(),
        "mps": "yes" if torch.backends.mps.is_available() else "no",
    }
    encoder = Encoder(resolve(MINI), EncoderOptions(device=device, precision=precision))
    cosine = agreement(encoder.model, encoder.frames, encoder.device)
    healthy = cosine >= AGREEMENT
    facts |= {
        "device": f"{device_name(encoder.device)} ({encoder.device_reason})",
        "precision": f"{encoder.precision} ({encoder.precision_reason})",
        "device against cpu": f"cosine {cosine:.6f}, {'good' if healthy else 'WRONG: use --device cpu'}",
        "default model": default_model(),
        "settings": _place(str(config_file())),
        "index": _place(str(data_folder() / "index")),
        "cache of stopcli": _place(str(cache_folder())),
        "cache of models": _place(constants.HF_HUB_CACHE),
        "hub": "not asked (offline)" if offline or is_offline() else _hub(constants.ENDPOINT),
    }
    return Diagnosis(facts, healthy)


def _cuda() -> str:
    import torch

    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    built = torch.version.cuda
    return f"no device found (torch is built for CUDA {built})" if built else "no (torch is built for CPUs)"


def _place(path: str) -> str:
    return path if Path(path).exists() else f"{path} (not there yet)"


def _hub(endpoint: str) -> str:
    from huggingface_hub import get_session

    try:
        answer = get_session().head(endpoint, timeout=TIMEOUT, follow_redirects=True)
    except Exception as error:  # whatever the HTTP client calls it, the answer is the same
        return f"{endpoint} cannot be reached ({type(error).__name__})"
    return f"{endpoint} answers ({answer.status_code})"
