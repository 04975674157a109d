"""Any model of this project in MTEB's video tasks (extra ``mteb``): comparable with the field's leaderboard.

```python
import mteb
from stopcli.mteb import load

mteb.evaluate(load("my-model"), mteb.get_tasks(["HMDB51ZeroShot", "MSVDT2VRetrieval"]))
```

Frames are read and prepared as every command does, not by MTEB's own decoder. Sound is not listened to.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from numpy.typing import NDArray

from stopcli.errors import InputError, UsageError
from stopcli.hub.registry import resolve
from stopcli.results import EncodedClip

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder, EncoderOptions

ROWS = 64  # videos that are written to a scratch folder at once


def load(name: str, options: EncoderOptions | None = None) -> MTEBEncoder:
    """Return a model, by name, folder or Hub repository, that MTEB evaluates. Errors as `stopcli.load`."""
    from stopcli.runtime.encoder import Encoder

    return MTEBEncoder(Encoder(resolve(name), options))


class MTEBEncoder(AbsEncoder):  # type: ignore[misc]
    """A model as MTEB calls it: texts and videos in, vectors of one space out."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.model = encoder.model
        self.mteb_model_meta = _meta(encoder)

    def encode(self, inputs: Any, *, task_metadata: Any, **_: Any) -> NDArray[np.float32]:
        """Embed the rows of a data set -> (N,E) float32 of unit length; the mean of both where it has both.

        Raises UsageError: it has neither texts nor videos. InputError: a video cannot be read.
        """
        data, parts = inputs.dataset, []
        if "text" in data.features:
            parts.append(self.encoder.encode_texts([str(text) for text in data["text"]]))
        if "video" in data.features:
            parts.append(np.concatenate([*self._videos(data)]))
        if not parts:
            raise UsageError(
                f"{task_metadata.name}: has neither texts nor videos, but {', '.join(data.features)}"
            )
        together = np.mean(parts, axis=0)
        vectors: NDArray[np.float32] = together / np.linalg.norm(together, axis=1, keepdims=True)
        return vectors

    def _videos(self, data: Any) -> Iterator[NDArray[np.float32]]:
        from datasets import Video

        raw = data.cast_column("video", Video(decode=False))
        for first in range(0, len(raw), ROWS):
            rows = raw[first : first + ROWS]["video"]
            with tempfile.TemporaryDirectory() as scratch:
                paths = [_file(row, Path(scratch) / str(i)) for i, row in enumerate(rows)]
                vectors: list[NDArray[np.float32]] = []
                for item in self.encoder.encode_videos(paths, steady=True):
                    if not isinstance(item, EncodedClip):
                        raise InputError(f"video {first + len(vectors)}: {item.message}")
                    vectors.append(item.vector)
            yield np.stack(vectors)


def _file(row: dict[str, Any], place: Path) -> Path:
    """Return the file of a video, written to a place where the data set holds its bytes only."""
    if row.get("bytes") is None:
        return Path(row["path"])
    place.write_bytes(row["bytes"])
    return place


def _meta(encoder: Encoder) -> ModelMeta:
    files, (trained, frozen) = encoder.files, encoder.model.count_parameters()
    name = re.sub(r"[^\w.-]+", "-", Path(files.name).name or files.name).strip("-") or "model"
    return ModelMeta.create_empty(
        {
            "name": f"stopcli/{name}",
            "revision": files.weights_hash()[:40],
            "n_parameters": trained + frozen,
            "embed_dim": encoder.embed_dim,
            "framework": ["PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": False,
            "modalities": ["text", "video"],
            "experiment_kwargs": {"frames": encoder.frames, "precision": encoder.precision},
        }
    )
