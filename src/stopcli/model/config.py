"""What a model folder says of itself: ``config.json``, format 1, and STOP's hyper-parameters.

    {"format": 1,
     "backbone": {"architecture": "ViT-B-32-quickgelu",   an open_clip name
                  "weights": "openai"                      an open_clip tag,
                           | "hf:org/repo"                 an open_clip repository, or
                           | "file:backbone.safetensors",  open_clip's state dict in this folder
                  "config": {...}},                        only for architectures open_clip lacks
     "stop": null | {StopConfig},                          null is plain CLIP, and needs no weights
     "sampling": {"frames": 12},
     "labels": null | ["..."],
     "template": "a video of {}",                          the sentence around a label; may be absent
     ...}                                                  anything else is kept: license, training

The same on disk and on the Hub. No torch here: names are resolved without it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from stopcli.errors import CheckpointError

FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


Mode = Literal["dynamic", "static", "off"]


@dataclass(frozen=True)
class StopConfig:
    """The hyper-parameters of STOP, saved with the weights."""

    spatial: Mode = "dynamic"
    """dynamic: on the discriminative regions; static: learned offsets; off."""
    temporal: Mode = "dynamic"
    """dynamic: where the frames change; static: learned tokens in every gap; off."""
    regions: int = 16
    """N_s, discriminative patches a frame."""
    alpha: float = 0.5
    """Weight of intra-frame attention in the region score; the rest is temporal dynamics."""
    beta: float = 1.0
    """How much more change counts inside the regions."""
    eta: int = 4
    """Prompts in the gap that changes most."""
    hidden: int = 96
    """Hidden width of the modules."""
    dropout: float = 0.1
    shared: bool = True
    """One set of modules for all prompted blocks, or one for each."""
    prompted_blocks: tuple[int, ...] | None = None
    """Which blocks of the vision tower get prompts; None is all."""

    def __post_init__(self) -> None:
        for name in ("spatial", "temporal"):
            if getattr(self, name) not in get_args(Mode):
                raise ValueError(f"{name} must be dynamic, static or off, got {getattr(self, name)!r}")
        for name in ("regions", "eta", "hidden"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1 up, got {value!r}")
        for name in ("alpha", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)!r}")
        if self.beta < 0:
            raise ValueError(f"beta must not be negative, got {self.beta!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        out = asdict(self)
        out["prompted_blocks"] = list(self.prompted_blocks) if self.prompted_blocks else None
        return out

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StopConfig:
        """Build from plain values.

        Raises:
            ValueError: a name or value that no StopConfig has.
        """
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"unknown settings {', '.join(unknown)}")
        blocks = values.get("prompted_blocks")
        return cls(**{**values, "prompted_blocks": tuple(blocks) if blocks else None})


@dataclass(frozen=True)
class ModelConfig:
    """What ``config.json`` says."""

    architecture: str
    weights: str
    stop: StopConfig | None
    frames: int
    labels: tuple[str, ...] | None = None
    backbone_config: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    template: str | None = None
    """The sentence around a label, ``{}`` where it goes; None is the default one."""

    def to_dict(self) -> dict[str, Any]:
        """Return what is written to ``config.json``."""
        backbone: dict[str, Any] = {"architecture": self.architecture, "weights": self.weights}
        if self.backbone_config is not None:
            backbone["config"] = self.backbone_config
        return {
            "format": FORMAT,
            "backbone": backbone,
            "stop": self.stop.to_dict() if self.stop is not None else None,
            "sampling": {"frames": self.frames},
            "labels": list(self.labels) if self.labels else None,
            **({"template": self.template} if self.template is not None else {}),
            **self.extra,
        }


def read_config(folder: Path) -> ModelConfig:
    """Read and check ``config.json`` of a model folder.

    Raises:
        CheckpointError: it is absent, no JSON, of a newer format, or says what cannot be.
    """
    path = folder / CONFIG_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no {CONFIG_FILE} in it; is it a model folder?") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("format"), int):
        raise CheckpointError(f'{path}: no "format" number in it; is it a stopcli model?')
    if raw["format"] > FORMAT:
        raise CheckpointError(
            f"{path}: format {raw['format']} is newer than this stopcli reads ({FORMAT}); upgrade stopcli"
        )
    return _parse(raw, path)


def _parse(raw: dict[str, Any], path: Path) -> ModelConfig:
    def need(where: dict[str, Any], key: str, kind: type, shown: str) -> Any:
        value = where.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise CheckpointError(f'{path}: "{shown}" must be a {kind.__name__}, got {value!r}')
        return value

    backbone = need(raw, "backbone", dict, "backbone")
    sampling = need(raw, "sampling", dict, "sampling")
    frames = need(sampling, "frames", int, "sampling.frames")
    if frames < 1:
        raise CheckpointError(f'{path}: "sampling.frames" must be at least 1, got {frames}')
    labels, stop = raw.get("labels"), raw.get("stop")
    if labels is not None and not (
        isinstance(labels, list) and labels and all(isinstance(x, str) for x in labels)
    ):
        raise CheckpointError(f'{path}: "labels" must be null or a list of texts')
    try:
        config = StopConfig.from_dict(stop) if stop is not None else None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: "stop": {error}') from error
    template = raw.get("template")
    if template is not None and not (isinstance(template, str) and "{}" in template):
        raise CheckpointError(f'{path}: "template" must be a text with {{}} where the label goes')
    weights = need(backbone, "weights", str, "backbone.weights")
    if weights.startswith("file:") and Path(weights[5:]).name != weights[5:]:
        raise CheckpointError(f'{path}: "backbone.weights" must name a file of this folder, got {weights!r}')
    known = {"format", "backbone", "stop", "sampling", "labels", "template"}
    return ModelConfig(
        architecture=need(backbone, "architecture", str, "backbone.architecture"),
        weights=weights,
        stop=config,
        frames=frames,
        labels=tuple(labels) if labels else None,
        backbone_config=backbone.get("config"),
        template=template,
        extra={k: v for k, v in raw.items() if k not in known},
    )
