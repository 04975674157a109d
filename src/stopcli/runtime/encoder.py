"""A model on a device: frames and texts in, vectors out.

Every command that embeds goes through `Encoder`, and no other package moves a tensor to a device.
Letters: B clips, T frames, S side in pixels, N texts or labels, E embedding size.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stopcli.errors import CheckpointError, DeviceError, StopError, UsageError
from stopcli.model.files import ModelFiles
from stopcli.model.loading import in_batches, load_model, tokenizer_of
from stopcli.model.stop import Stop, StopTrace
from stopcli.results import EncodedClip, Failure
from stopcli.runtime.device import choose_device, choose_precision, default_batch, device_name, dtype_of
from stopcli.runtime.graphs import how_to_encode
from stopcli.runtime.head import Head, LabelScores, head_of, score_labels
from stopcli.runtime.int8 import Int8Tower
from stopcli.runtime.text import TextEncoder
from stopcli.settings import Precision
from stopcli.video.clips import READER, Frames
from stopcli.video.pixels import Framing
from stopcli.video.workers.pool import read_clips
from stopcli.video.workers.prefetch import prefetch

# what processors and Apple's GPUs say when memory runs out
FULL = ("can't allocate memory", "not enough memory", "out of memory")
Result = TypeVar("Result")


@dataclass(frozen=True)
class EncoderOptions:
    """How to run a model; ``auto`` chooses and says why."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    precision: str = "auto"  # auto, fp32, bf16, fp16, int8
    batch_size: int | None = None  # clips a batch; None chooses by device
    frames: int | None = None  # frames a clip; None is what the model was made for
    compile: bool = False  # torch.compile, on CUDA: slow to start, faster over many clips

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise UsageError(f"precision must be {', '.join(get_args(Precision))}; got {self.precision!r}")
        for name, most in (("batch_size", 65536), ("frames", 64)):
            value = getattr(self, name)
            if value is not None:
                if not hasattr(value, "__index__") or not 1 <= value <= most:
                    raise UsageError(f"{name} must be a number from 1 to {most}, got {value!r}")
                object.__setattr__(self, name, int(value))  # NumPy's numbers are no Python numbers to others


class Encoder:
    """A model on a device; prompts that its config names but no folder holds are drawn from torch's seed.

    ``trainable`` keeps weights in fp32 and gives prompts gradients; ``precision`` is then autocast's.

    Raises:
        DeviceError: the device is absent or wrong. CheckpointError: the model's files do not fit
            together. UsageError: an option the device does not have.
    """

    def __init__(
        self, files: ModelFiles, options: EncoderOptions | None = None, *, trainable: bool = False
    ) -> None:
        self.files = files
        self.options = options or EncoderOptions()
        self.frames = self.options.frames or files.config.frames
        model = load_model(files)
        self.logit_scale = _temperature(model, files)  # softmax(logit_scale * cosine) are the scores
        preprocess = model.backbone.preprocess
        keys = files.config.sampling == "keyframes"
        self.framing = Framing(preprocess.size, preprocess.fit, preprocess.interpolation, keys)
        self.device, self.device_reason = choose_device(self.options.device, model, self.frames)
        self.precision, self.precision_reason = choose_precision(
            self.device, self.options.precision, trainable=trainable
        )
        self.dtype = torch.float32 if trainable else dtype_of(self.precision)
        self._autocast = trainable and self.precision != "fp32"
        if trainable and self.precision in ("fp16", "int8"):
            raise UsageError(f"{self.precision} is too coarse to train in; use --precision bf16 or fp32")
        if self.options.compile and self.device.type != "cuda":
            raise UsageError(f"--compile needs a CUDA device, got {self.device}")
        model.prompts.requires_grad_(trainable)
        self._adopt(model.to(self.device, self.dtype))
        visual = model.backbone.clip.visual
        self._unproven = Int8Tower(visual) if self.precision == "int8" else None
        self._mean, self._std = (
            torch.tensor(v, device=self.device).view(3, 1, 1) for v in (preprocess.mean, preprocess.std)
        )
        self.batch_size = self.options.batch_size or default_batch(model, self.device, self.frames, trainable)
        self.embed_dim: int = model.backbone.embed_dim
        self.head = head_of(files, self.embed_dim)
        self._texts = TextEncoder(files, self._embed_texts, f"{self.dtype} on {self.device.type}")

    def _adopt(self, model: Stop) -> None:
        self.model = model
        self._encode = how_to_encode(model, self.device, compiled=self.options.compile)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches a column and a row of a frame; ValueError if the tower has none."""
        return self.model.tower.grid

    def without_prompts(self) -> Encoder:
        """Return the same backbone without prompts, sharing its weights: plain CLIP."""
        twin = copy.copy(self)
        config = replace(self.files.config, stop=None, head=None)
        twin.files, twin.head = replace(self.files, config=config, folder=None, focus=0.0), None
        twin._adopt(Stop(self.model.backbone, None).eval())
        return twin

    def change_precision(self, name: str) -> None:
        """Compute in another precision from now on; errors as of the class."""
        vars(self).update(vars(Encoder(self.files, replace(self.options, precision=name))))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts -> (N,E) float32 of unit length, each once; raises UsageError for one that is empty."""
        return self._texts.encode(texts)

    def _embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        def embed(tokens: Tensor) -> Tensor:
            return self.model.encode_text(tokens.to(self.device)).cpu()

        return _finite(self, in_batches(embed, self._tokenizer(list(texts))))

    @cached_property
    def _tokenizer(self) -> Any:
        return tokenizer_of(self.files)

    def label_scores(
        self, vectors: NDArray[np.float32], texts: NDArray[np.float32], head: Head | None = None
    ) -> LabelScores:
        """Score clips (B,E) against labels with texts (N,E), and with what was learnt of them from clips."""
        return score_labels(vectors, texts, self.logit_scale, head)

    def encode_videos(
        self,
        paths: Sequence[str | Path],
        *,
        window: float | None = None,
        shots: bool = False,
        steady: bool = False,
    ) -> Iterator[EncodedClip | Failure]:
        """Embed videos, or windows of so many seconds, in order; a failure is yielded and stops nothing.

        With ``shots``, windows end at the film's cuts. Decoding runs ahead of the model in threads, a bounded
        number of clips at most. ``steady`` fills the last batch up, for matrix products of other sizes round
        otherwise: a clip's vector is then the same, bit for bit, whatever it is embedded with.
        """
        if window is not None and window <= 0:
            raise UsageError(f"a window must be longer than 0 seconds, got {window:g}")
        threads, clips = (0 if len(paths) == 1 else 1), 0

        def read(path: str | Path) -> Iterable[Frames]:
            return read_clips(path, self.frames, self.framing, window, threads=threads, shots=shots)

        waiting: deque[tuple[str | Path, Frames | StopError]] = deque()
        with closing(prefetch(read, paths)) as decoded:
            for path, item in decoded:
                waiting.append((path, item))
                clips += isinstance(item, Frames)
                if clips >= self.batch_size or not clips:  # a failure waits for no clip behind it
                    yield from _encoded(self, waiting, whole=window is None)
                    clips = 0
        yield from _encoded(self, waiting, whole=window is None, steady=steady)

    def encode_pixels(self, pixels: NDArray[np.uint8], *, steady: bool = False) -> NDArray[np.float32]:
        """Embed frames (B,T,S,S,3) uint8 -> (B,E) float32 of unit length; DeviceError if memory runs out."""
        out: list[NDArray[np.float32]] = []
        done, count = 0, len(pixels)
        if steady:  # fill the last batch up: see `encode_videos`
            pixels = np.concatenate([pixels, pixels[-1:].repeat(-count % self.batch_size, 0)])

        def next_batch() -> NDArray[np.float32]:
            part = pixels[done : done + self.batch_size]
            with torch.inference_mode():
                found = self.forward(part)
                if self._unproven is not None:
                    self._unproven.check(lambda: self.forward(part[:1]), found[:1], self.files.name)
                    self._unproven = None
            vectors: NDArray[np.float32] = found.cpu().numpy()
            return vectors

        while done < len(pixels):
            out.append(self.retry_smaller_batch(next_batch))
            done += len(out[-1])
        return _finite(self, np.concatenate(out)[:count])

    def forward(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Embed decoded frames (B,T,S,S,3) uint8 -> (B,E) float32 on the device, with gradients if on."""
        kind, dtype = self.device.type, dtype_of(self.precision)
        # without a cache, for what it holds would be freed while a recording still reads it
        with torch.autocast(kind, dtype, enabled=self._autocast, cache_enabled=kind != "cuda"):
            vectors: Tensor = self._encode(self._preprocess(np.ascontiguousarray(pixels)))
        return vectors.float()

    def trace(self, pixels: NDArray[np.uint8]) -> StopTrace:
        """Return on the CPU what prompts or focus do on clips (B,T,S,S,3)."""
        with torch.inference_mode():
            _, trace = self.model.trace(self._preprocess(pixels))
        return StopTrace(*(getattr(trace, f.name).cpu() for f in fields(trace)))

    def _preprocess(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Normalise on the device: (B,T,S,S,3) uint8 -> (B,T,3,S,S) in the model's dtype."""
        x = self.to_device(pixels).permute(0, 1, 4, 2, 3).float() / 255
        return ((x - self._mean) / self._std).to(self.dtype)

    def to_device(self, array: NDArray[Any]) -> Tensor:
        """Return an array as a tensor on the device."""
        return torch.from_numpy(array).to(self.device)

    def retry_smaller_batch(self, work: Callable[[], Result]) -> Result:
        """Do ``work``, which computes ``batch_size`` clips at once; halve that until it fits into memory.

        It stays halved.

        Raises:
            DeviceError: not even one clip fits.
        """
        while True:
            try:
                return work()
            except RuntimeError as error:
                if not isinstance(error, torch.OutOfMemoryError) and not any(w in str(error) for w in FULL):
                    raise
                if self.batch_size == 1:
                    raise DeviceError(
                        f"{self.device}: one clip of {self.frames} frames does not fit into memory; "
                        "use fewer --frames, a smaller model, or --device cpu"
                    ) from error
            self.batch_size //= 2
            if self.device.type in ("cuda", "mps"):
                getattr(torch, self.device.type).empty_cache()

    def describe(self) -> dict[str, Any]:
        """Return what makes results comparable: versions, device, precision, weights hash."""
        return {
            **_versions(),
            "model": self.files.name,
            "weights": self.files.weights_hash(),
            **({"focus": self.files.focus} if self.files.focus else {}),
            **({"head": self.files.config.head} if self.head else {}),
            "frames": self.frames,
            **{name: value for name, value in asdict(self.framing).items() if name != "keyframes"},
            "reader": READER,
            "video_key": self.files.video_key(READER)[:16],
            "text_key": self.files.text_key()[:16],
            "sampler": "key-frames" if self.framing.keyframes else "segment-centres",
            "device": device_name(self.device),
            "precision": self.precision,
        }


def _temperature(model: Stop, files: ModelFiles) -> float:
    """Return CLIP's temperature; raises CheckpointError for one that cannot be."""
    found = float(model.backbone.logit_scale)
    if not 0 < found < 1e4:
        problem = f"its temperature (logit_scale) is {found:g}; its weights are damaged"
        raise CheckpointError(f"{files.name}: {problem}")
    return found


def _versions() -> dict[str, str]:
    import stopcli

    open_clip = version("open_clip_torch")
    return {"stopcli": stopcli.__version__, "torch": torch.__version__, "open_clip": open_clip}


def _finite(encoder: Encoder, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors; CheckpointError where they are no numbers."""
    if not np.isfinite(vectors).all():
        problem = "makes vectors that are no numbers; its weights are damaged"
        coarse = encoder.precision == "fp16"
        way = f", or --precision {encoder.precision} is too coarse for it" if coarse else ""
        raise CheckpointError(f"{encoder.files.name}: {problem}{way}")
    return vectors


def _encoded(
    encoder: Encoder,
    waiting: deque[tuple[str | Path, Frames | StopError]],
    *,
    whole: bool,
    steady: bool = False,
) -> Iterator[EncodedClip | Failure]:
    clips = [item.pixels for _, item in waiting if isinstance(item, Frames)]
    vectors = iter(encoder.encode_pixels(np.stack(clips), steady=steady)) if clips else iter(())
    while waiting:
        path, item = waiting.popleft()
        if isinstance(item, Frames):
            start, end = (None, None) if whole else (item.start, item.end)
            yield EncodedClip(str(path), start, end, next(vectors), item.end)
        else:
            yield Failure.of(path, item)
