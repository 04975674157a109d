"""What models there are, and what one is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from stopcli.errors import ModelError, UsageError
from stopcli.hub.named import ENTRIES
from stopcli.hub.registry import resolve
from stopcli.model.files import ModelFiles
from stopcli.model.preprocess import preprocess_of
from stopcli.model.towers.architectures import list_architectures, read_architecture, structure_of
from stopcli.results import ModelEntry, ModelInfo, ModelTower

LANGUAGES = {"English": "English only", "many": "many languages"}


def list_models(default: str) -> Iterator[ModelEntry]:
    """Return the named models, and whether their files are here; no request is made."""
    for entry in ENTRIES.values():
        try:
            size = _size(resolve(entry.name, offline=True))
        except (ModelError, UsageError):  # not here, or not whole
            size = None
        is_default = entry.name == default
        yield ModelEntry(
            entry.name, size is not None, size, is_default, entry.license, entry.description, entry.parameters
        )


def list_towers(part: str = "") -> Iterator[ModelTower]:
    """Return open_clip's architectures whose names hold ``part``."""
    import open_clip

    fits: dict[str, Counter[str]] = {}
    for architecture, tag in open_clip.list_pretrained():
        wishes = open_clip.get_pretrained_cfg(architecture, tag)
        preprocess = preprocess_of(architecture, read_architecture(architecture), wishes)
        fits.setdefault(architecture, Counter())[preprocess.fit] += 1
    for name in list_architectures():
        if part.lower() in name.lower():
            s = structure_of(read_architecture(name) or {})
            known = fits.get(name, Counter())
            fit = " or ".join(sorted(known)) or None
            yield ModelTower(
                name,
                s.kind,
                s.size,
                fit,
                s.context,
                s.languages,
                "multilingual" if s.transformers else None,
                s.prompts,
                s.note,
            )


def describe_model(files: ModelFiles) -> ModelInfo:
    """Return a model's files, size, settings, license and provenance."""
    config, extra = files.config, files.config.extra
    entry = ENTRIES.get(files.name)
    structure = structure_of(files.settings or {"vision_cfg": {}, "text_cfg": {}})
    look = files.preprocess
    return ModelInfo(
        name=files.name,
        description=entry.description if entry else extra.get("description"),
        architecture=config.architecture,
        backbone=str(files.backbone),
        prompts=str(files.prompts) if files.prompts else None,
        size=_size(files),
        sha256=files.weights_hash(),
        stop=config.stop.to_dict() if config.stop else None,
        tower=structure.kind if structure.prompts else f"{structure.kind} (no prompts: {structure.note})",
        preprocess=f"{look.size} px, {look.fit}, {look.interpolation}",
        words=f"{LANGUAGES[structure.languages]}, at most {structure.context} tokens",
        frames=config.frames,
        labels=len(config.labels) if config.labels else None,
        license=entry.license if entry else extra.get("license"),
        training=extra.get("training"),
        metrics=extra.get("metrics"),
    )


def _size(files: ModelFiles) -> int:
    return sum(part.stat().st_size for part in (files.backbone, files.prompts) if part is not None)
