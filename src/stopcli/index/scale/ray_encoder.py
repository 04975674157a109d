"""An encoder whose work is done by a Ray cluster (extra ``ray``): the index is made as on one machine.

Tasks on CPUs decode; a pool of actors, each with the model loaded once, computes; results come back in
order. A worker that is lost is replaced, and what it was at is done again. Batches are as large as in a run
of one process, so the vectors are the same, bit for bit, on the same kind of machine. Every machine must see
the videos, and the model's files, at the same paths.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stopcli.errors import DeviceError, StopError, UsageError
from stopcli.model.files import ModelFiles
from stopcli.results import EncodedClip, Failure
from stopcli.video.clips import Frames
from stopcli.video.workers.pool import read_clips

if TYPE_CHECKING:
    from stopcli.runtime.encoder import EncoderOptions

REACHED = 10.0  # seconds that a cluster has to answer
CHUNK = 16  # clips that a decoding task hands on at once
ENDS = -1.0  # stands for no time
Batch = dict[str, Any]


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Join a Ray cluster for a while, or start one on this machine; what Ray says goes to stderr.

    Raises UsageError: Ray is not installed. DeviceError: the cluster does not answer.
    """
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray; install 'stopcli[ray]'") from None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of what is to come
    # as many threads as in an ordinary run: Ray would allow one, and sums would be rounded otherwise
    threads = {"env_vars": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "")}}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    with redirect_stdout(sys.stderr):
        try:
            _probe(address)
            ray.init(address=address or "local", runtime_env=threads, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            way = "is 'ray start' running, and RAY_AUTH_MODE=token set where it wants a token?"
            raise DeviceError(f"--ray-address {address}: cannot be reached ({reason}); {way}") from None
        try:
            yield
        finally:
            ray.shutdown()


def _probe(address: str | None) -> None:
    """Raise OSError where nobody listens: Ray itself would try for a long time."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), REACHED).close()


class RayEncoder:
    """What an index asks of an encoder, done by so many models in a cluster; None: one a GPU, or one."""

    def __init__(self, files: ModelFiles, options: EncoderOptions, actors: int | None = None) -> None:
        import ray

        places: dict[str, Any] = {f.name: getattr(files, f.name) for f in fields(files)}
        absolute: dict[str, Any] = {n: p.absolute() for n, p in places.items() if isinstance(p, Path)}
        self._how = replace(files, **absolute), options  # a worker has a current folder of its own
        gpus = int(ray.cluster_resources().get("GPU", 0)) if options.device in ("auto", "cuda") else 0
        self._asked = actors
        self._actors, self._gpus = actors or max(1, gpus), 1.0 if gpus else 0.0
        try:
            facts = ray.get(ray.remote(num_gpus=self._gpus)(_facts).remote(*self._how))
        except ray.exceptions.RayTaskError as error:
            raise _own(error) from error
        self.precision, self.embed_dim = facts["precision"], facts["embed_dim"]
        self.frames, self.framing, self.batch_size = facts["frames"], facts["framing"], facts["batch_size"]

    def change_precision(self, name: str) -> None:
        """Compute in another precision from now on, as `Encoder.change_precision` does."""
        files, options = self._how
        vars(self).update(vars(RayEncoder(files, replace(options, precision=name), self._asked)))

    def encode_videos(
        self, paths: Sequence[str | Path], *, window: float | None = None, shots: bool = False, **_: object
    ) -> Iterator[EncodedClip | Failure]:
        """Embed videos as `Encoder.encode_videos` does, in order, and always steadily."""
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.execution_options.preserve_order = True
        rows = ray.data.from_items([{"path": os.fsencode(p)} for p in paths], override_num_blocks=len(paths))
        how = {"frames": self.frames, "framing": self.framing, "window": window, "shots": shots}
        decoded = rows.map_batches(_decode, batch_size=1, fn_kwargs=how, num_cpus=1, max_retries=-1)
        encoded = decoded.map_batches(
            _Model,
            batch_size=self.batch_size,
            fn_constructor_args=self._how,
            compute=ray.data.ActorPoolStrategy(size=self._actors),
            num_cpus=0,  # decoding gets the cores: else one core alone would wait for itself
            num_gpus=self._gpus or None,
        )
        try:
            for row in encoded.iter_rows():
                yield _result(row, whole=window is None)
        except ray.exceptions.RayError as error:
            raise _own(error) from error


def _facts(files: ModelFiles, options: EncoderOptions) -> dict[str, Any]:
    from stopcli.runtime.encoder import Encoder

    encoder = Encoder(files, options)
    names = ("precision", "embed_dim", "frames", "framing", "batch_size")
    return {name: getattr(encoder, name) for name in names}


def _decode(batch: Batch, *, frames: int, framing: Any, window: float | None, shots: bool) -> Iterator[Batch]:
    """Decode one file: yield its clips, some at a time; a fault is a row without frames."""
    path = os.fsdecode(bytes(batch["path"][0]))
    nothing = np.zeros((frames, framing.size, framing.size, 3), np.uint8)

    def rows(items: Sequence[Frames | StopError]) -> Batch:
        faults = [(i.kind, str(i)) if isinstance(i, StopError) else ("", "") for i in items]
        times = [(i.start, i.end) if isinstance(i, Frames) else (None, None) for i in items]
        return {
            "path": [os.fsencode(path)] * len(items),
            "pixels": np.stack([i.pixels if isinstance(i, Frames) else nothing for i in items]),
            "start": [ENDS if start is None else start for start, _ in times],
            "end": [ENDS if end is None else end for _, end in times],
            "error": [os.fsencode(kind) for kind, _ in faults],
            "message": [message.encode(errors="surrogateescape") for _, message in faults],
        }

    waiting: list[Frames | StopError] = []
    try:
        for item in read_clips(path, frames, framing, window, threads=1, shots=shots):
            waiting.append(item)
            if len(waiting) == CHUNK:
                yield rows(waiting)
                waiting = []
    except StopError as error:
        waiting.append(error)
    if waiting:
        yield rows(waiting)


class _Model:
    """An actor of the pool."""

    def __init__(self, files: ModelFiles, options: EncoderOptions) -> None:
        from stopcli.runtime.encoder import Encoder

        self._encoder = Encoder(files, options)

    def __call__(self, batch: Batch) -> Batch:
        """Embed the clips of a batch, filled up to its full size."""
        good = [i for i, error in enumerate(batch["error"]) if not bytes(error)]
        vectors = np.zeros((len(batch["error"]), self._encoder.embed_dim), np.float32)
        if good:
            vectors[good] = self._encoder.encode_pixels(batch["pixels"][good], steady=True)
        batch.pop("pixels", None)
        return {**batch, "vector": vectors}


def _result(row: Mapping[str, Any], *, whole: bool) -> EncodedClip | Failure:
    path = os.fsdecode(bytes(row["path"]))
    if error := bytes(row["error"]).decode():
        return Failure(path, error, bytes(row["message"]).decode(errors="surrogateescape"))
    start, end = (None if time == ENDS else float(time) for time in (row["start"], row["end"]))
    vector = np.asarray(row["vector"], np.float32)
    return EncodedClip(path, None if whole else start, None if whole else end, vector, end or 0.0)


def _own(error: Exception) -> StopError:
    """Return the error of ours that a worker raised, else say what Ray says."""
    cause: object = error
    while (inner := getattr(cause, "cause", None)) is not None:  # Ray wraps it in a class of its own
        cause = inner
    if isinstance(cause, StopError):
        return cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return DeviceError(f"the Ray cluster gave up: {lines[-1][:300] if lines else type(error).__name__}")
