"""From a model's name to its files: built-in names, ``hf:org/repo[@revision]`` and folders.

The Hub is asked only for what the local cache lacks.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stopcli.errors import ModelNotFound, OfflineError
from stopcli.hub.client import fetch, split_hub_name
from stopcli.model.config import CONFIG_FILE, WEIGHTS_FILE, ModelConfig, read_config
from stopcli.model.files import ModelFiles

if TYPE_CHECKING:
    Fetch = Callable[[str, str, str | None], Path]  # (repository, file, revision) -> where it lies

BACKBONE_FILE = "open_clip_model.safetensors"
BACKBONE_CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class NamedModel:
    """A model that has a name of its own."""

    name: str
    architecture: str
    weights: str
    """As in a model folder's config.json."""
    frames: int
    license: str
    description: str
    prompts: str | None = None
    """Hub repository of STOP prompt weights for this backbone; None is plain CLIP."""


def _openai(size: str, repo: str, note: str = "") -> NamedModel:
    description = f"OpenAI CLIP ViT-{size}, without STOP prompts{note}"
    architecture = f"ViT-{size.replace('/', '-')}-quickgelu"
    return NamedModel(
        architecture[:8].lower(), architecture, f"hf:timm/{repo}.openai", 12, "MIT", description
    )


MINI = "mini"
ENTRIES = {
    entry.name: entry
    for entry in (
        NamedModel(
            name=MINI,
            architecture="stop-mini",
            weights="file:backbone.safetensors",
            frames=8,
            license="Apache-2.0",
            description="knows only its generated world: 48 drawn objects in 10 motions (bundled)",
        ),
        _openai("B/32", "vit_base_patch32_clip_224"),
        _openai("B/16", "vit_base_patch16_clip_224", ": slower, finer"),
        _openai("L/14", "vit_large_patch14_clip_224", ": slowest, best"),
    )
}


def resolve(name: str, *, offline: bool = False, refresh: bool = False) -> ModelFiles:
    """Find a model's files, fetching what is not cached.

    Args:
        name: a built-in name, ``hf:org/repo[@revision]``, or a model folder.
        offline: make no request.
        refresh: ask the Hub for newer files even where all are cached.

    Raises:
        ModelNotFound: there is no such model.
        CheckpointError: its folder is not what it should be.
        DownloadError, OfflineError: a file is not cached and could not be fetched.
    """
    named = name if name in ENTRIES or name.startswith("hf:") else None
    get = partial(fetch, offline=offline, refresh=refresh, model=named)
    if name == MINI:
        return _from_folder(name, Path(str(package_files("stopcli") / "assets" / "mini")), get)
    if name in ENTRIES:
        try:
            return _from_entry(ENTRIES[name], get)
        except ModelNotFound as error:  # of a repository that the user did not name
            raise ModelNotFound(f"{name} cannot be fetched: {error}") from error
    if name.startswith("hf:"):
        return _from_hub(name, name, get)
    folder = Path(name)
    if folder.is_dir():
        return _from_folder(name, folder, get)
    close = difflib.get_close_matches(name, ENTRIES, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ModelNotFound(
        f"no model {name!r}{hint}; use one of {', '.join(ENTRIES)}, a model folder, or hf:org/repo"
    )


def _from_entry(entry: NamedModel, get: Fetch) -> ModelFiles:
    if entry.prompts is not None:
        return _from_hub(entry.name, entry.prompts, get)
    config = ModelConfig(entry.architecture, entry.weights, None, entry.frames)
    backbone, preprocess = _backbone(config, None, get)
    return ModelFiles(entry.name, config, None, backbone, preprocess)


def _from_folder(name: str, folder: Path, get: Fetch) -> ModelFiles:
    config = read_config(folder)
    backbone, preprocess = _backbone(config, folder, get)
    return ModelFiles(name, config, folder, backbone, preprocess)


def _from_hub(name: str, source: str, get: Fetch) -> ModelFiles:
    repo, revision = split_hub_name(source)
    try:
        folder = get(repo, CONFIG_FILE, revision).parent
        ours = "format" in json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (ModelNotFound, ValueError):
        ours = False
    if not ours:  # an open_clip repository: plain CLIP
        path = get(repo, BACKBONE_CONFIG, revision)
        metadata = json.loads(path.read_text(encoding="utf-8"))
        config = ModelConfig(repo, source, None, 12, backbone_config=metadata.get("model_cfg"))
        backbone = get(repo, BACKBONE_FILE, path.parent.name)
        return ModelFiles(name, config, None, backbone, metadata.get("preprocess_cfg", {}))
    config = read_config(folder)
    commit = folder.name  # the other files must be of the same state, wherever the branch is by then
    if config.stop is not None:
        get(repo, WEIGHTS_FILE, commit)
    if config.weights.startswith("file:"):
        get(repo, config.weights.removeprefix("file:"), commit)
    backbone, preprocess = _backbone(config, folder, get)
    return ModelFiles(name, config, folder, backbone, preprocess)


def _backbone(config: ModelConfig, folder: Path | None, get: Fetch) -> tuple[Path, dict[str, Any]]:
    """Return open_clip's state dict and its preprocessing, from where ``config`` says."""
    weights = config.weights
    if weights.startswith("file:"):
        if folder is None:
            raise ModelNotFound(f"{weights}: only a model folder can hold its backbone")
        file = folder / weights.removeprefix("file:")
        if not file.is_file():
            raise ModelNotFound(f"{folder}: its backbone {file.name} is not there")
        return file, {}
    if weights.startswith("hf:"):
        repo, revision = split_hub_name(weights)
        return get(repo, BACKBONE_FILE, revision), {}
    import open_clip

    metadata = open_clip.get_pretrained_cfg(config.architecture, weights)
    if not metadata or not metadata.get("hf_hub"):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(config.architecture)) or "none"
        raise ModelNotFound(f"open_clip has no weights {weights!r} for {config.architecture}; it has {tags}")
    repo, _, file_name = metadata["hf_hub"].rpartition("/")
    safe = re.sub(r"\.(bin|pt|pth)$", ".safetensors", file_name) or BACKBONE_FILE
    return get(repo, safe, None), metadata


def cached(entry: NamedModel) -> Path | None:
    """Return a named model's backbone file if it is at hand; no request is made."""
    try:
        return resolve(entry.name, offline=True).backbone
    except (OfflineError, ModelNotFound):
        return None
