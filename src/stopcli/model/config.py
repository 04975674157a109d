"""What a model folder says of itself: ``config.json``, format 2, and STOP's hyper-parameters.

docs/how-to.md, "Make a model folder by hand", shows one. The same on disk and on the Hub.
No torch here: names are resolved without it.
"""

from __future__ import annotations

import reprlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from stopcli.errors import CheckpointError
from stopcli.fileio import read_json

FORMAT = 2
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
HEAD_FILE = "head.safetensors"
TOKENIZER_FOLDER = "tokenizer"  # of a model whose texts are not read as CLIP's, if it brings its own

Mode = Literal["dynamic", "static", "off"]
Sampling = Literal["exact", "keyframes"]  # frames at the wanted times, or the key frames nearest to them
Attention = Literal["joint", "frame"]  # what a patch attends to: all frames, or its own
HeadKind = Literal["auto", "text", "prototype", "mix"]  # what labels are recognized by
_NUMBERS = {"regions", "alpha", "bound", "beta", "dropout", "plain"}
_WHOLE = {"eta": 64, "hidden": 4096}  # and how large they may be


@dataclass(frozen=True)
class StopConfig:
    """The hyper-parameters of STOP, saved with the weights."""

    spatial: Mode = "dynamic"  # on the discriminative regions; static: learned offsets
    temporal: Mode = "dynamic"  # where the frames change; static: learned tokens in every gap
    regions: float = 1 / 6  # N_s, the discriminative patches, as a share of a frame's
    alpha: float = 0.5  # weight of intra-frame attention in the region score; the rest is temporal dynamics
    bound: float = 1.0  # a spatial prompt stays below this share of the tokens' size
    beta: float = 1.0  # how much more change counts inside the regions
    eta: int = 3  # prompts in the gap that changes most
    hidden: int = 96  # hidden width of the modules
    dropout: float = 0.0
    shared: bool = True  # one set of modules for all prompted blocks, or one for each
    attention: Attention = "joint"  # of patches: to those of all frames, or of their own
    prompted_blocks: tuple[int, ...] | None = None  # of the vision tower; None is all
    plain: float = 0.0  # share of plain CLIP's vector in a video's

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            found = f"got {reprlib.repr(value)}"
            if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{name} must be a number, {found}")
            if name in ("spatial", "temporal") and value not in get_args(Mode):
                raise ValueError(f"{name} must be dynamic, static or off, {found}")
            if name == "attention" and value not in get_args(Attention):
                raise ValueError(f"{name} must be joint or frame, {found}")
            if name in _WHOLE and not (type(value) is int and 1 <= value <= _WHOLE[name]):
                raise ValueError(f"{name} must be a whole number from 1 to {_WHOLE[name]}, {found}")
            if name in ("alpha", "dropout", "plain") and not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, {found}")
            if name in ("regions", "bound") and not 0 < value <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, {found}")
            if name == "beta" and not 0 <= value <= 100:
                raise ValueError(f"{name} must be between 0 and 100, {found}")
            if name == "shared" and not isinstance(value, bool):
                raise ValueError(f"{name} must be true or false, {found}")
        blocks = self.prompted_blocks or ()
        if len(set(blocks)) != len(blocks) or not all(type(b) is int and 0 <= b < 1000 for b in blocks):
            raise ValueError(f"prompted_blocks must be different blocks of the tower, got {str(blocks)[:60]}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        values = asdict(self) | {"prompted_blocks": list(self.prompted_blocks or ()) or None}
        if not self.plain:  # so that models without it are what they were
            del values["plain"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StopConfig:
        """Build from plain values; ValueError for a name or value that no StopConfig has."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"unknown settings {', '.join(unknown)}")
        return cls(**values | {"prompted_blocks": tuple(values.get("prompted_blocks") or ()) or None})


@dataclass(frozen=True)
class ModelConfig:
    """What ``config.json`` says."""

    architecture: str  # an open_clip name
    weights: str  # an open_clip tag, "hf:org/repo", or "file:..." for a state dict in the folder
    stop: StopConfig | None  # None is plain CLIP
    frames: int
    labels: tuple[str, ...] | None = None
    backbone_config: dict[str, Any] | None = None  # open_clip's own, for architectures that it does not list
    extra: dict[str, Any] = field(default_factory=dict)  # anything else is kept: license, training
    template: str | None = None  # the sentence around a label, ``{}`` where it goes
    backbone_sha256: str | None = None  # of the file that the prompts were trained on
    head: dict[str, Any] | None = None  # how labels were learnt from clips, see `stopcli.runtime.head`
    preprocess: dict[str, Any] | None = None  # see `stopcli.model.preprocess`; None is as the weights have it
    sampling: Sampling = "exact"

    def to_dict(self) -> dict[str, Any]:
        """Return what is written to ``config.json``."""
        more = {"sha256": self.backbone_sha256, "config": self.backbone_config, "preprocess": self.preprocess}
        more = {name: value for name, value in more.items() if value is not None}
        return {
            "format": FORMAT,
            "backbone": {"architecture": self.architecture, "weights": self.weights, **more},
            "stop": self.stop.to_dict() if self.stop is not None else None,
            "sampling": {
                "frames": self.frames,
                **({} if self.sampling == "exact" else {"times": self.sampling}),
            },
            "labels": list(self.labels or ()) or None,
            **({} if self.template is None else {"template": self.template}),
            **({} if self.head is None else {"head": self.head}),
            **self.extra,
        }


def read_config(folder: Path) -> ModelConfig:
    """Read and check ``config.json`` of a model folder.

    CheckpointError: it is absent, no JSON, of a newer format, or says what cannot be.
    """
    path = folder / CONFIG_FILE
    try:
        raw = read_json(path)
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no {CONFIG_FILE} in it; is it a model folder?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    number = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise CheckpointError(f'{path}: no "format" number in it; is it a stopcli model?')
    if number > FORMAT:
        raise CheckpointError(
            f"{path}: format {number} is newer than this stopcli reads ({FORMAT}); upgrade stopcli"
        )
    if number < FORMAT and raw.get("stop") is not None:
        raise CheckpointError(
            f"{path}: format {number} holds prompts for an older STOP, which this stopcli does not "
            "run; make them again with stop finetune"
        )
    return _parse(raw, path)


def _parse(raw: dict[str, Any], path: Path) -> ModelConfig:
    """Check each value; those that are not known are kept as they are."""
    from pydantic import ValidationError

    from stopcli.model.schema import ConfigFile, Metadata, first_fault

    try:
        file = ConfigFile.model_validate(raw)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_fault(error)}") from error
    try:
        stop = StopConfig.from_dict(file.stop) if file.stop is not None else None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: "stop": {error}') from error
    holds = {WEIGHTS_FILE: stop is not None and "prompts", HEAD_FILE: file.head is not None and "labels"}
    if what := holds.get(file.backbone.weights.removeprefix("file:")):
        name = file.backbone.weights
        raise CheckpointError(f'{path}: "backbone.weights" is {name!r}, which holds the {what}; rename it')
    frames, more = file.backbone.preprocess, file.model_extra or {}
    return ModelConfig(
        architecture=file.backbone.architecture,
        weights=file.backbone.weights,
        stop=stop,
        frames=file.sampling.frames,
        sampling=file.sampling.times,
        labels=tuple(file.labels) if file.labels else None,
        backbone_config=raw["backbone"].get("config"),
        preprocess=frames.model_dump(exclude_none=True) if frames is not None else None,
        template=file.template,
        head=file.head.model_dump() if file.head and file.labels else None,
        backbone_sha256=file.backbone.sha256,
        extra={n: v for n, v in raw.items() if n in more or (n in Metadata.model_fields and v is not None)},
    )
