"""The files of a model, all at hand."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from stopcli.errors import CannotWrite, CheckpointError, UsageError
from stopcli.fileio import file_hash, make_private_folder, write_text
from stopcli.model.config import WEIGHTS_FILE, ModelConfig, Sampling
from stopcli.model.preprocess import Fit, Preprocess
from stopcli.model.towers.architectures import read_architecture, structure_of
from stopcli.model.towers.tokens import TOKENIZER_FILES, Tokenizer, tokenizer_for
from stopcli.settings import cache_folder

KNOWN = 500  # hashes of files that are kept
KEYS = 2  # counts up whenever windows of key frames become others


@dataclass(frozen=True)
class ModelFiles:
    """A model whose files are all at hand."""

    name: str
    config: ModelConfig
    folder: Path | None  # where the prompts lie; None for plain CLIP without a folder
    backbone: Path  # open_clip's state dict
    preprocess: Preprocess
    words: Path | None = None  # the folder of the tokenizer, where it is not CLIP's own
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
        if strength:
            self.require_blocks("--focus motion")
        return replace(self, focus=strength)

    def require_blocks(self, what: str) -> None:
        """Raise UsageError if the vision tower has no blocks for ``what`` to work on."""
        note = structure_of(self.settings).note if self.settings else None
        if note is not None:
            way = "'stop models towers' lists those that can"
            problem = f"{self.name} is of the architecture {self.config.architecture} ({note})"
            raise UsageError(f"{what}: {problem}; {way}")

    def fitted(self, fit: Fit | None) -> ModelFiles:
        """Return this model with frames made square in another way than its tower was trained with."""
        if fit is None or fit == self.preprocess.fit:
            return self
        if fit not in get_args(Fit):
            raise UsageError(f"fit must be {', '.join(get_args(Fit))}; got {fit!r}")
        preprocess = replace(self.preprocess, fit=fit)
        config = replace(self.config, preprocess=preprocess.to_dict())
        return replace(self, preprocess=preprocess, config=config)

    def without_head(self) -> ModelFiles:
        """Return this model without what it learned of its labels from clips."""
        return replace(self, config=replace(self.config, head=None))

    def sampled(self, sampling: Sampling | None) -> ModelFiles:
        """Return this model with frames chosen in another way; None leaves it as it is."""
        if sampling is not None and sampling not in get_args(Sampling):
            raise UsageError(f"sampling must be {', '.join(get_args(Sampling))}; got {sampling!r}")
        return self if sampling is None else replace(self, config=replace(self.config, sampling=sampling))

    @property
    def title(self) -> str:
        """The name, and what is not as usual."""
        focus = f", focus {self.focus:g}" if self.focus else ""
        return self.name + focus + ("" if self.config.sampling == "exact" else f", {self.config.sampling}")

    @property
    def prompts(self) -> Path | None:
        """The file of the prompt weights, if the model has any."""
        return self.folder / WEIGHTS_FILE if self.folder and self.config.stop else None

    def weights_hash(self) -> str:
        """Return one SHA-256 over the files of backbone and prompts."""
        try:
            parts = [known_hash(file) for file in (self.backbone, self.prompts) if file is not None]
        except OSError as error:
            raise CheckpointError(f"{self.folder}: its weights cannot be read ({error.strerror})") from error
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def tokenizer(self) -> Tokenizer:
        """Return what turns texts into the backbone's token ids."""
        return tokenizer_for(self.config.architecture, self.settings or {}, self.words)

    @property
    def settings(self) -> dict[str, Any] | None:
        """open_clip's settings of the architecture; None for one that it does not list."""
        return self.config.backbone_config or read_architecture(self.config.architecture)

    def text_key(self) -> str:
        """Return a hash over all that decides the vectors of texts: weights, and what they are built into."""
        words = [known_hash(f) for n in TOKENIZER_FILES if self.words and (f := self.words / n).is_file()]
        text = json.dumps([self.weights_hash(), self.settings, words], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def video_key(self, reader: int) -> str:
        """Return a hash over all that decides the vectors of videos but their times and the precision.

        ``reader`` is the version of what decodes them.
        """
        stop = self.config.stop.to_dict() if self.config.stop else None
        seeing = {name: value for name, value in (self.settings or {}).items() if name != "text_cfg"}
        text = [self.weights_hash(), seeing, stop, asdict(self.preprocess), self.focus, reader]
        if self.config.sampling != "exact":
            text += [self.config.sampling, KEYS]
        return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()

    def require_own_backbone(self) -> ModelFiles:
        """Return this model; CheckpointError if its prompts were trained on another backbone."""
        expected = self.config.backbone_sha256
        if expected is not None and (found := known_hash(self.backbone)) != expected:
            problem = f"is not the backbone that {self.name} was trained on"
            hashes = f"its SHA-256 begins with {found[:12]}, expected {expected[:12]}"
            raise CheckpointError(f"{self.backbone}: {problem} ({hashes}); copy or fetch the model again")
        return self


def known_hash(file: Path) -> str:
    """Return a file's SHA-256, computed once as long as it does not change; raises OSError."""
    status, cache = file.stat(), cache_folder() / "hashes.json"
    key = f"{file.resolve()}:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
    known: dict[str, str] = {}
    with suppress(OSError, ValueError, TypeError):  # not there, or broken
        known = dict(json.loads(cache.read_text(encoding="utf-8")))
    if key not in known:
        known[key] = file_hash(file)
        with suppress(CannotWrite):
            make_private_folder(cache.parent)
            write_text(cache, json.dumps(dict(list(known.items())[-KNOWN:])))
    return str(known[key])
