"""Model folders: ``config.json`` beside ``model.safetensors``, the same on disk and on the Hub.

``config.json`` (format 1)::

    {"format": 1,
     "backbone": {"architecture": "ViT-B-32-quickgelu",   an open_clip name
                  "weights": "openai"                      an open_clip tag,
                           | "hf:org/repo"                 an open_clip repository, or
                           | "file:backbone.safetensors",  open_clip's state dict in this folder
                  "config": {...}},                        only for architectures open_clip lacks
     "stop": null | {StopConfig},                          null is plain CLIP, and needs no weights
     "sampling": {"frames": 12},
     "labels": null | ["..."],
     ...}                                                  anything else is kept: licence, training

``model.safetensors`` holds the prompt modules only. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stopcli.errors import CheckpointError
from stopcli.model.prompts import StopConfig

FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


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
    known = {"format", "backbone", "stop", "sampling", "labels"}
    return ModelConfig(
        architecture=need(backbone, "architecture", str, "backbone.architecture"),
        weights=need(backbone, "weights", str, "backbone.weights"),
        stop=config,
        frames=frames,
        labels=tuple(labels) if labels else None,
        backbone_config=backbone.get("config"),
        extra={k: v for k, v in raw.items() if k not in known},
    )


def build_backbone(architecture: str, config: dict[str, Any] | None, preprocess: dict[str, Any]) -> Any:
    """Build an open_clip model with random weights.

    Args:
        architecture: an open_clip name.
        config: open_clip's model config, for architectures that open_clip does not list.
        preprocess: ``mean`` and ``std`` where they are not CLIP's own.

    Raises:
        CheckpointError: open_clip knows no such architecture, or the tower does not suit STOP.
    """
    import open_clip

    from stopcli.model.clip import Backbone

    settings = config if config is not None else open_clip.get_model_config(architecture)
    if settings is None:
        import difflib

        close = difflib.get_close_matches(architecture, open_clip.list_models(), 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise CheckpointError(f"open_clip knows no architecture {architecture!r}{hint}")
    settings = dict(settings)
    custom_text = settings.pop("custom_text", False)
    if "multimodal_cfg" in settings or "hf_model_name" in settings.get("text_cfg", {}):
        raise CheckpointError(f"{architecture}: only plain CLIP models are supported")
    try:
        clip = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**settings)
    except (TypeError, KeyError, AssertionError, RuntimeError) as error:
        raise CheckpointError(f"{architecture}: not a backbone that can be built ({error})") from error
    return Backbone(clip, architecture, mean=preprocess.get("mean"), std=preprocess.get("std"))


def load_backbone_weights(backbone: Any, file: Path) -> None:
    """Load open_clip's state dict into a backbone, all of it and nothing else.

    Raises:
        CheckpointError: the file is damaged, or of another architecture.
    """
    _load_strict(backbone.clip, file, f"backbone {backbone.architecture}")


def load_prompts(model: Any, folder: Path) -> None:
    """Load ``model.safetensors`` into the prompt modules, all of it and nothing else.

    Raises:
        CheckpointError: the file is absent, damaged, or of another configuration.
    """
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise CheckpointError(f"{folder}: {CONFIG_FILE} promises prompts, but there is no {WEIGHTS_FILE}")
    _load_strict(model.prompts, file, "the prompts of its config.json")


def _load_strict(module: Any, file: Path, what: str) -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{file}: damaged ({error}); fetch or copy it again") from error
    expected = module.state_dict()
    missing = sorted(set(expected) - set(state))
    surplus = sorted(set(state) - set(expected))
    if missing or surplus:
        fault = f"lacks {missing[0]}" if missing else f"holds {surplus[0]}, which does not belong there"
        more = len(missing) + len(surplus) - 1
        raise CheckpointError(
            f"{file}: not weights for {what}: it {fault}" + (f" (and {more} more)" if more else "")
        )
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise CheckpointError(
                f"{file}: not weights for {what}: {name} is {tuple(state[name].shape)}, "
                f"expected {tuple(value.shape)}"
            )
    module.load_state_dict(state)


def save(folder: Path, config: ModelConfig, model: Any | None) -> None:
    """Write a model folder; each file appears whole or not at all.

    Args:
        folder: made if it is not there.
        config: what to write to ``config.json``.
        model: the `Stop` whose prompts are saved; None for plain CLIP.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if model is not None and config.stop is not None:
        part = folder / f".{WEIGHTS_FILE}.part"
        state = {k: v.detach().cpu().contiguous() for k, v in model.prompts.state_dict().items()}
        save_file(state, part, metadata={"format": "pt"})
        os.replace(part, folder / WEIGHTS_FILE)
    part = folder / f".{CONFIG_FILE}.part"
    part.write_text(json.dumps(config.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, folder / CONFIG_FILE)


def file_hash(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
