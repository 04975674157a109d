"""What a model folder says of itself: ``config.json``, format 2, and STOP's hyper-parameters.

docs/how-to.md, "Make a model folder by hand", shows one. The same on disk and on the Hub.
No torch here: names are resolved without it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from stopcli.errors import CheckpointError

FORMAT = 2
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

Mode = Literal["dynamic", "static", "off"]


@dataclass(frozen=True)
class StopConfig:
    """The hyper-parameters of STOP, saved with the weights."""

    spatial: Mode = "dynamic"  # on the discriminative regions; static: learned offsets
    temporal: Mode = "dynamic"  # where the frames change; static: learned tokens in every gap
    regions: float = 1 / 6  # N_s, the discriminative patches, as a share of a frame's
    alpha: float = 0.5  # weight of intra-frame attention in the region score; the rest is temporal dynamics
    bound: float = 0.3  # a spatial prompt stays below this share of the tokens' size
    beta: float = 1.0  # how much more change counts inside the regions
    eta: int = 3  # prompts in the gap that changes most
    hidden: int = 96  # hidden width of the modules
    dropout: float = 0.0
    shared: bool = True  # one set of modules for all prompted blocks, or one for each
    prompted_blocks: tuple[int, ...] | None = None  # of the vision tower; None is all

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name in ("spatial", "temporal") and value not in get_args(Mode):
                raise ValueError(f"{name} must be dynamic, static or off, got {value!r}")
            if name in ("eta", "hidden") and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name} must be a whole number from 1 up, got {value!r}")
            if name in ("alpha", "dropout") and not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {value!r}")
            if name in ("regions", "bound") and not 0 < value <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {value!r}")
            if name == "beta" and value < 0:
                raise ValueError(f"{name} must not be negative, got {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        return asdict(self) | {"prompted_blocks": list(self.prompted_blocks or ()) or None}

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

    def to_dict(self) -> dict[str, Any]:
        """Return what is written to ``config.json``."""
        config = {} if self.backbone_config is None else {"config": self.backbone_config}
        return {
            "format": FORMAT,
            "backbone": {"architecture": self.architecture, "weights": self.weights, **config},
            "stop": self.stop.to_dict() if self.stop is not None else None,
            "sampling": {"frames": self.frames},
            "labels": list(self.labels or ()) or None,
            **({} if self.template is None else {"template": self.template}),
            **self.extra,
        }


def read_config(folder: Path) -> ModelConfig:
    """Read and check ``config.json`` of a model folder.

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
    if raw["format"] < FORMAT and raw.get("stop") is not None:
        raise CheckpointError(
            f"{path}: format {raw['format']} holds prompts for an older STOP, which this stopcli does not "
            "run; make them again with stop finetune"
        )
    return _parse(raw, path)


def _parse(raw: dict[str, Any], path: Path) -> ModelConfig:
    """Check each value; those that are not known are kept as they are."""

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
    labels, stop, template = raw.get("labels"), raw.get("stop"), raw.get("template")
    is_list = isinstance(labels, list) and labels and all(isinstance(x, str) for x in labels)
    if labels is not None and not is_list:
        raise CheckpointError(f'{path}: "labels" must be null or a list of texts')
    try:
        config = StopConfig.from_dict(stop) if stop is not None else None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: "stop": {error}') from error
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
