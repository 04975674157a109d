"""The files of a model, all at hand."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stopcli.errors import UsageError
from stopcli.fileio import file_hash
from stopcli.model.config import WEIGHTS_FILE, ModelConfig


@dataclass(frozen=True)
class ModelFiles:
    """A model whose files are all at hand."""

    name: str
    config: ModelConfig
    folder: Path | None  # where the prompts lie; None for plain CLIP without a folder
    backbone: Path  # open_clip's state dict
    preprocess: dict[str, Any] = field(default_factory=dict)
    focus: float = 0.0  # see `stopcli.model.stop.Stop`; with prompts it has no effect

    @property
    def origin(self) -> str:
        """The named model that this one was tuned from, however often; its own name if none."""
        training = self.config.extra.get("training")
        origin = training.get("origin") if isinstance(training, dict) else None
        return str(origin or self.name)

    def focused(self, strength: float) -> ModelFiles:
        """Return this model with a focus; UsageError if it has prompts, which look for motion themselves."""
        if strength and self.config.stop is not None:
            problem = f"{self.name} has prompts, which look for motion themselves"
            raise UsageError(f"--focus motion: {problem}; use it with a plain model such as vit-b-32")
        return replace(self, focus=strength)

    @property
    def title(self) -> str:
        """The name, and the focus where there is any."""
        return f"{self.name}, focus {self.focus:g}" if self.focus else self.name

    @property
    def prompts(self) -> Path | None:
        """The file of the prompt weights, if the model has any."""
        return self.folder / WEIGHTS_FILE if self.folder and self.config.stop else None

    def weights_hash(self) -> str:
        """Return one SHA-256 over backbone, prompts and focus: the same vectors, the same hash."""
        parts = [_weights_sha256(file) for file in (self.backbone, self.prompts) if file is not None]
        parts += [f"focus {self.focus}"] if self.focus else []
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def _weights_sha256(file: Path) -> str:
    blob = file.resolve()  # the Hub's cache names a large file by its SHA-256
    return blob.name if re.fullmatch(r"[0-9a-f]{64}", blob.name) else file_hash(file)
