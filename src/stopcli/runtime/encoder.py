"""The one place that knows devices: loading, precision, preprocessing, batching, prefetch.

Everything that embeds goes through `Runtime`; no other module moves a tensor to a device.
Letters: B clips, T frames, S side in pixels, N texts, E embedding size.
"""

from __future__ import annotations

import copy
from collections import deque
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from stopcli.errors import DeviceError, StopError, UsageError
from stopcli.model.loading import load_model, tokenizer_of
from stopcli.model.stop import Stop, StopTrace
from stopcli.results import EncodedClip, Failure
from stopcli.runtime.device import DTYPES, checked_device, choose_precision, device_name
from stopcli.video.clips import Frames, read_frames, read_windows
from stopcli.video.prefetch import prefetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stopcli.hub.registry import ModelFiles

Result = TypeVar("Result")

AGREEMENT = 0.999  # cosine between a device's and the CPU's embedding of the same frames
TEXT_BATCH = 256
CPU_TRAINING_BYTES = 4 << 30
HELD_FOR_GRADIENTS = 136  # bytes a token, channel and block, about: 34 fp32 values


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

    Args:
        files: the model. Prompts that its ``config`` asks for but that no folder holds start anew,
            from torch's seed.
        options: how to run it.
        trainable: keep the weights in fp32 and give the prompts gradients; ``precision`` is then
            that of the arithmetic (autocast).

    Raises:
        DeviceError: the device is absent or wrong.
        CheckpointError: the model's files do not fit together.
        UsageError: an option the device does not have.
    """

    def __init__(
        self, files: ModelFiles, options: RuntimeOptions | None = None, *, trainable: bool = False
    ) -> None:
        self.files = files
        self.options = options or RuntimeOptions()
        self.frames = self.options.frames or files.config.frames
        self._model = load_model(files)
        self.logit_scale = float(self._model.backbone.logit_scale)
        """CLIP's temperature: softmax(logit_scale * cosine) are the scores."""
        self.size = self._model.backbone.preprocess.size
        self.grid = self._model.backbone.grid
        self.device, self.device_reason = self._choose_device()
        self.precision, self.precision_reason = choose_precision(self.device, self.options.precision)
        self._autocast = trainable and self.precision != "fp32"
        self._dtype = torch.float32 if trainable else DTYPES[self.precision]
        if trainable:
            if self.precision == "fp16":
                raise UsageError("fp16 is too coarse to train in; use --precision bf16 or fp32")
            self._model.prompts.requires_grad_(True)
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
        self.batch_size = self.options.batch_size or self._default_batch(trainable)
        self._texts: dict[str, NDArray[np.float32]] = {}

    # ------------------------------------------------------------------------------ choices

    def _default_batch(self, trainable: bool) -> int:
        """Return how many clips to compute at once; on a GPU, `halving` corrects it."""
        if self.device.type == "cuda":
            return 32
        if not trainable:
            return 4
        tokens = self.frames * self.grid[0] * self.grid[1]
        held = tokens * self._model.backbone.width * len(self._model.backbone.blocks) * HELD_FOR_GRADIENTS
        return max(1, min(128, CPU_TRAINING_BYTES // held))

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
                yield EncodedClip(str(path), start, end, next(vectors), item.end)
            else:
                yield Failure.of(path, item)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed decoded frames (B,T,S,S,3) uint8 -> (B,E) float32 of unit length.

        Raises:
            DeviceError: not even one clip fits into memory.
        """
        out: list[NDArray[np.float32]] = []
        start = 0
        while start < len(pixels):
            part = self.halving(lambda at=start: self._encode_batch(pixels[at : at + self.batch_size]))  # type: ignore[misc]
            out.append(part)
            start += len(part)
        return np.concatenate(out)

    def halving(self, work: Callable[[], Result]) -> Result:
        """Do ``work``, which computes ``batch_size`` clips at once; halve that until it fits into memory.

        It stays halved.

        Raises:
            DeviceError: not even one clip fits.
        """
        while True:
            try:
                return work()
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise DeviceError(
                        f"{self.device}: one clip of {self.frames} frames does not fit into memory; "
                        "use fewer --frames, a smaller model, or --device cpu"
                    ) from error
            self.batch_size //= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _encode_batch(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            out: NDArray[np.float32] = self.forward(pixels).cpu().numpy()
        return out

    def forward(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Embed decoded frames (B,T,S,S,3) uint8 -> (B,E) float32 on the device, with gradients if on."""
        with torch.autocast(self.device.type, DTYPES[self.precision], enabled=self._autocast):
            vectors: Tensor = self._encode(self._preprocess(torch.from_numpy(np.ascontiguousarray(pixels))))
        return vectors.float()

    def trace(self, pixels: NDArray[np.uint8]) -> StopTrace:
        """Tell what the prompts do on clips (B,T,S,S,3): see `StopTrace`; on the CPU.

        Raises:
            UsageError: the model has no prompts.
        """
        if self.files.config.stop is None:
            raise UsageError(
                f"{self.files.name} is plain CLIP: it has no prompts to show; use a model with prompts"
            )
        with torch.inference_mode():
            _, told = self._model.trace(self._preprocess(torch.from_numpy(pixels)))
        return StopTrace(*(getattr(told, f.name).cpu() for f in fields(told)))

    # ----------------------------------------------------------------------------- training

    @property
    def prompts(self) -> torch.nn.ModuleList:
        """The prompt modules: what trains."""
        return self._model.prompts

    @property
    def model(self) -> Stop:
        """The model itself, for saving and for pictures."""
        return self._model

    def set_training(self, mode: bool) -> None:
        """Switch dropout on or off."""
        self._model.train(mode)

    def to_device(self, array: NDArray[Any]) -> Tensor:
        """Return an array as a tensor on the device."""
        return torch.from_numpy(array).to(self.device)

    def plain(self) -> Runtime:
        """Return the same backbone without prompts, sharing its weights: plain CLIP."""
        twin = copy.copy(self)
        twin.files = replace(self.files, config=replace(self.files.config, stop=None))
        twin._model = Stop(self._model.backbone, None).eval()
        twin._encode = twin._model.encode_video
        return twin

    def count_parameters(self) -> tuple[int, int]:
        """Return how many parameters train, and how many are frozen."""
        trainable = sum(p.numel() for p in self._model.prompts.parameters())
        return trainable, sum(p.numel() for p in self._model.backbone.parameters())

    def _preprocess(self, pixels: Tensor) -> Tensor:
        """Normalise on the device: (B,T,S,S,3) uint8 -> (B,T,3,S,S) in the model's dtype."""
        x = pixels.to(self.device).permute(0, 1, 4, 2, 3).float() / 255
        return ((x - self._mean) / self._std).to(self._dtype)

    @cached_property
    def _tokenizer(self) -> Any:
        return tokenizer_of(self.files.config)

    # ---------------------------------------------------------------------------- measuring

    def count_flops(self, pixels: NDArray[np.uint8]) -> int:
        """Return the floating-point operations of embedding these clips, as torch counts them."""
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        # fused kernels are not all in torch's table of operations: the plain ones are
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                self.forward(pixels)
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
        return int(counter.get_total_flops())

    def peak_memory(self, pixels: NDArray[np.uint8]) -> float | None:
        """Return the most device memory (MiB) that embedding these clips takes; None on a CPU."""
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        self._encode_batch(pixels)
        return float(torch.cuda.max_memory_allocated(self.device) / 2**20)

    def matrix_product(self, n: int) -> Callable[[], None]:
        """Return what multiplies two n x n matrices in the model's dtype, once, to the end."""
        a, b = (torch.randn(n, n, device=self.device, dtype=self._dtype) for _ in range(2))

        def work() -> None:
            torch.mm(a, b)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return work

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


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
