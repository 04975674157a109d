"""What models there are, and what one is made of."""

from __future__ import annotations

from collections.abc import Iterator

from stopcli.errors import ModelNotFound, OfflineError
from stopcli.hub.registry import ENTRIES, resolve
from stopcli.model.files import ModelFiles
from stopcli.results import ModelEntry, ModelInfo


def list_models(default: str) -> Iterator[ModelEntry]:
    """Return the named models, and whether their files are here; no request is made."""
    for entry in ENTRIES.values():
        try:
            size = _size(resolve(entry.name, offline=True))
        except (OfflineError, ModelNotFound):
            size = None
        is_default = entry.name == default
        yield ModelEntry(entry.name, size is not None, size, is_default, entry.license, entry.description)


def describe_model(files: ModelFiles) -> ModelInfo:
    """Return a model's files, size, settings, license and provenance."""
    config, extra = files.config, files.config.extra
    entry = ENTRIES.get(files.name)
    return ModelInfo(
        name=files.name,
        description=entry.description if entry else extra.get("description"),
        architecture=config.architecture,
        backbone=str(files.backbone),
        prompts=str(files.prompts) if files.prompts else None,
        size=_size(files),
        sha256=files.weights_hash(),
        stop=config.stop.to_dict() if config.stop else None,
        frames=config.frames,
        labels=len(config.labels) if config.labels else None,
        license=entry.license if entry else extra.get("license"),
        training=extra.get("training"),
        metrics=extra.get("metrics"),
    )


def _size(files: ModelFiles) -> int:
    return sum(part.stat().st_size for part in (files.backbone, files.prompts) if part is not None)
