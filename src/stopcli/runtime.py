"""The one place that knows devices: loading, precision, preprocessing, batching, prefetch.

Everything that embeds goes through `Runtime`; no other module moves a tensor to a device.
Letters: B clips, T frames, S side in pixels, N texts, E embedding size.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stopcli.errors import CheckpointError, DeviceError, StopError, UsageError
from stopcli.model.checkpoint import build_backbone, load_backbone_weights, load_prompts
from stopcli.model.stop import Stop
from stopcli.prefetch import prefetch
from stopcli.results import EncodedClip, Failure
from stopcli.video import Frames, read_frames, read_windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stopcli.registry import ModelFiles

AGREEMENT = 0.999  # cosine between a device's and the CPU's embedding of the same frames
TEXT_BATCH = 256
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class RuntimeOptions:
    """How to run a model; ``auto`` chooses and says why."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    precision: str = "auto"
    """auto, fp32, bf16, fp16."""
    batch_size: int | None = None
    """Clips a batch; None chooses by device."""
    frames: int | None = None
    """Frames a clip; None is what the model was made for."""
    compile: bool = False
    """torch.compile, on CUDA: slow to start, faster over many clips."""


class Runtime:
    """A model on a device.

    Raises:
        DeviceError: the device is absent or wrong.
        CheckpointError: the model's files do not fit together.
        UsageError: an option the device does not have.
    """

    def __init__(self, files: ModelFiles, options: RuntimeOptions | None = None) -> None:
        self.files = files
        self.options = options or RuntimeOptions()
        self.frames = self.options.frames or files.config.frames
        self._model = load_model(files)
        self.logit_scale = float(self._model.backbone.logit_scale)
        """CLIP's temperature: softmax(logit_scale * cosine) are the scores."""
        self.size = self._model.backbone.preprocess.size
        self.device, self.device_reason = self._choose_device()
        self.precision, self.precision_reason = choose_precision(self.device, self.options.precision)
        self._dtype = DTYPES[self.precision]
        self._model.to(self.device, self._dtype)
        told = self._model.backbone.preprocess
        self._mean, self._std = (
            torch.tensor(v, device=self.device).view(3, 1, 1) for v in (told.mean, told.std)
        )
        self._encode = self._model.encode_video
        if self.options.compile:
            if self.device.type != "cuda":
                raise UsageError(f"--compile needs a CUDA device, got {self.device}")
            self._encode = torch.compile(self._encode)
        self.batch_size = self.options.batch_size or (32 if self.device.type == "cuda" else 4)
        self._texts: dict[str, NDArray[np.float32]] = {}

    # ------------------------------------------------------------------------------ choices

    def _choose_device(self) -> tuple[torch.device, str]:
        wanted = self.options.device
        if wanted != "auto":
            return checked_device(wanted), "asked for"
        if torch.cuda.is_available():
            return torch.device("cuda"), "CUDA is available"
        if torch.backends.mps.is_available():
            agreement = self.agreement(torch.device("mps"))
            if agreement >= AGREEMENT:
                return torch.device("mps"), f"MPS agrees with the CPU (cosine {agreement:.5f})"
            return torch.device("cpu"), f"MPS disagrees with the CPU (cosine {agreement:.5f})"
        return torch.device("cpu"), "no GPU found"

    def agreement(self, device: torch.device) -> float:
        """Return the lowest cosine between fp32 embeddings of fixed noise on ``device`` and the CPU."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(2, self.frames, 3, self.size, self.size, generator=generator)
        home, dtype = next((p.device, p.dtype) for p in self._model.parameters())
        with torch.inference_mode():
            self._model.to("cpu", torch.float32)
            reference = self._model.encode_video(noise)
            self._model.to(device)
            found = self._model.encode_video(noise.to(device)).cpu()
            self._model.to(home, dtype)
        return float((reference * found).sum(-1).min())

    # ---------------------------------------------------------------------------- embedding

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts -> (N,E) float32 of unit length; each text is computed once.

        Raises:
            UsageError: a text that is empty.
        """
        if any(not text.strip() for text in texts):
            raise UsageError("a text to embed is empty; every label or query needs a word")
        new = [t for t in dict.fromkeys(texts) if t not in self._texts]
        for i in range(0, len(new), TEXT_BATCH):
            part = new[i : i + TEXT_BATCH]
            with torch.inference_mode():
                vectors = self._model.encode_text(self._tokenizer(part).to(self.device)).cpu().numpy()
            self._texts.update(zip(part, vectors, strict=True))
        return np.stack([self._texts[t] for t in texts])

    def encode_videos(
        self, paths: Sequence[str | Path], *, every: float | None = None
    ) -> Iterator[EncodedClip | Failure]:
        """Embed videos, in the order given; one that fails yields its failure and stops nothing.

        Decoding runs ahead of the model in threads, a bounded number of clips at most.

        Args:
            paths: video files.
            every: seconds of a window; None embeds each file as one clip.
        """
        alone = len(paths) == 1

        def read(path: str | Path) -> Iterable[Frames]:
            threads = 0 if alone else 1
            if every is None:
                return [read_frames(path, self.frames, self.size, threads=threads)]
            return read_windows(path, self.frames, self.size, every, threads=threads)

        waiting: deque[tuple[str | Path, Frames | StopError]] = deque()
        with closing(prefetch(read, paths)) as decoded:
            for path, item in decoded:
                waiting.append((path, item))
                if sum(isinstance(i, Frames) for _, i in waiting) >= self.batch_size:
                    yield from self._drain(waiting, whole=every is None)
        yield from self._drain(waiting, whole=every is None)

    def _drain(
        self, waiting: deque[tuple[str | Path, Frames | StopError]], *, whole: bool
    ) -> Iterator[EncodedClip | Failure]:
        clips = [item.pixels for _, item in waiting if isinstance(item, Frames)]
        vectors = iter(self.encode_pixels(np.stack(clips))) if clips else iter(())
        while waiting:
            path, item = waiting.popleft()
            if isinstance(item, Frames):
                start, end = (None, None) if whole else (item.start, item.end)
                yield EncodedClip(str(path), start, end, next(vectors))
            else:
                yield Failure.of(path, item)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed decoded frames (B,T,S,S,3) uint8 -> (B,E) float32 of unit length.

        A batch that does not fit into memory is halved, and stays halved.

        Raises:
            DeviceError: not even one clip fits.
        """
        out = []
        start = 0
        while start < len(pixels):
            part = pixels[start : start + self.batch_size]
            try:
                out.append(self._encode_batch(part))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise DeviceError(
                        f"{self.device}: one clip of {self.frames} frames does not fit into memory; "
                        "use fewer --frames, a smaller model, or --device cpu"
                    ) from error
                self.batch_size = len(part) // 2
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            start += len(part)
        return np.concatenate(out)

    def _encode_batch(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            vectors: Tensor = self._encode(self._preprocess(torch.from_numpy(pixels)))
            out: NDArray[np.float32] = vectors.float().cpu().numpy()
        return out

    def _preprocess(self, pixels: Tensor) -> Tensor:
        """Normalise on the device: (B,T,S,S,3) uint8 -> (B,T,3,S,S) in the model's dtype."""
        x = pixels.to(self.device).permute(0, 1, 4, 2, 3).float() / 255
        return ((x - self._mean) / self._std).to(self._dtype)

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        config = self.files.config
        told = config.backbone_config or open_clip.get_model_config(config.architecture) or {}
        text = told.get("text_cfg", {})
        if text.get("hf_tokenizer_name"):
            return open_clip.get_tokenizer(config.architecture)
        return open_clip.SimpleTokenizer(context_length=text.get("context_length", 77))

    def describe(self) -> dict[str, Any]:
        """Return what makes results comparable: versions, device, precision, weights hash."""
        import open_clip

        import stopcli

        return {
            "stopcli": stopcli.__version__,
            "torch": torch.__version__,
            "open_clip": open_clip.__version__,
            "model": self.files.name,
            "weights": self.files.weights_hash(),
            "frames": self.frames,
            "size": self.size,
            "sampler": "segment-centres",
            "device": device_name(self.device),
            "precision": self.precision,
        }


def load_model(files: ModelFiles) -> Stop:
    """Build a model and load its weights, on the CPU in fp32.

    Raises:
        CheckpointError: the files do not fit together.
    """
    config = files.config
    backbone = build_backbone(config.architecture, config.backbone_config, files.preprocess)
    load_backbone_weights(backbone, files.backbone)
    try:
        model = Stop(backbone, config.stop)
    except ValueError as error:
        raise CheckpointError(f"{files.folder}: its prompts do not fit its backbone: {error}") from error
    if files.folder is not None and config.stop is not None:
        load_prompts(model, files.folder)
    return model.eval().requires_grad_(False)


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


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
