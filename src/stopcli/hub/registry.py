"""From a model's name to its files; the Hub is asked only for what the local cache lacks."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from stopcli.errors import CheckpointError, ModelNotFound, OfflineError, UsageError
from stopcli.fileio import is_file, is_folder, read_json
from stopcli.hub.client import fetch, split_hub_name
from stopcli.hub.named import ENTRIES, MINI
from stopcli.model.config import (
    CONFIG_FILE,
    HEAD_FILE,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    ModelConfig,
    read_config,
)
from stopcli.model.files import ModelFiles
from stopcli.model.preprocess import preprocess_of
from stopcli.model.towers.architectures import read_architecture, require_transformers
from stopcli.model.towers.tokens import TOKENIZER_FILES, VOCABULARIES

Fetch = Callable[[str, str, str | None], Path]  # (repository, file, revision) -> where it lies

BACKBONE_FILE = "open_clip_model.safetensors"
OPEN_CLIP_FILE = "open_clip_config.json"
OPENAI = {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336"}  # whose frames are `Preprocess`'s own


def resolve(
    name: str | Path,
    *,
    offline: bool = False,
    refresh: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> ModelFiles:
    """Find the files of a built-in name, ``hf:org/repo[@revision]`` or a folder; fetch what is not cached.

    ``offline`` makes no request; ``refresh`` asks the Hub for newer files even where all are cached. ``say``
    is called with a note where older files are used, because the Hub cannot be reached.

    Raises:
        ModelNotFound: there is no such model. CheckpointError: its folder is not what it should be.
        DownloadError, OfflineError: a file is not cached and could not be fetched.
    """
    asked: list[str] = []
    if isinstance(name, Path):  # which drops the dot that tells a folder from a built-in model
        name = str(name) if name.is_absolute() else f".{os.sep}{name}"

    def get(repo: str, file: str, revision: str | None = None) -> Path:
        asked.append(repo)
        return fetch(repo, file, revision, offline=offline, refresh=refresh, model=name, stale=stale.append)

    stale: list[Path] = []
    try:
        found = _resolve(name, get)
    except OfflineError:
        if not refresh:
            for older in _older_states(asked[-1]):  # a newer one may have arrived in part
                with suppress(OfflineError, ModelNotFound, CheckpointError):
                    files = _resolve(name, older)
                    say(f"{name}: the newest state is not whole in the cache; an older one is used")
                    return files
        raise
    if stale:
        say(f"{name}: the Hub cannot be reached, so the cached files are used; there may be newer ones")
    return found


def _older_states(repo: str) -> Iterator[Fetch]:
    """Yield what takes a repository's files from an earlier state of its main branch in the cache.

    The newest comes first. States that other branches and tags name are none of it.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "snapshots"
    with suppress(OSError, ValueError):
        refs = {f: f.read_text().strip() for f in (folder.parent / "refs").rglob("*") if f.is_file()}
        main = folder.parent / "refs" / "main"
        others = {commit for file, commit in refs.items() if file != main}
        states = [state for state in folder.iterdir() if main in refs and state.name not in others]
        for state in sorted(states, key=lambda path: path.stat().st_mtime, reverse=True):

            def get(other: str, file: str, revision: str | None = None, state: str = state.name) -> Path:
                return fetch(
                    other, file, state if (other, revision) == (repo, None) else revision, offline=True
                )

            yield get


def _resolve(name: str, get: Fetch) -> ModelFiles:
    if name in ENTRIES and is_file(Path(name) / CONFIG_FILE):
        problem = f"{name} is a built-in model, and a model folder here"
        raise UsageError(f"{problem}; write ./{name} for the folder, or rename it")
    if name in ENTRIES and name != MINI:
        entry = ENTRIES[name]
        try:
            if entry.prompts is not None:
                return _from_hub(name, entry.prompts, get)
            frames = preprocess_of(entry.architecture, None, entry.preprocess).to_dict()
            config = ModelConfig(entry.architecture, entry.weights, None, entry.frames, preprocess=frames)
            return _with_backbone(name, config, None, get)
        except ModelNotFound as error:  # of a repository that the user did not name
            raise ModelNotFound(f"{name} cannot be fetched: {error}") from error
    if name.startswith("hf:"):
        return _from_hub(name, name, get)
    folder = Path(str(package_files("stopcli") / "assets" / MINI)) if name == MINI else Path(name)
    if is_folder(folder):
        return _from_folder(name, folder, get)
    if is_file(folder):
        raise ModelNotFound(f"{name}: is a file; name the folder of the model, {folder.parent}")
    close = difflib.get_close_matches(name, [*ENTRIES, *_folders_beside(folder)], 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    names = ", ".join(ENTRIES)
    raise ModelNotFound(f"no model {name!r}{hint}; use one of {names}, a model folder, or hf:org/repo")


def _folders_beside(folder: Path) -> list[str]:
    """Return the model folders where a name was looked for in vain."""
    with suppress(OSError):
        return [str(path.parent) for path in folder.parent.glob(f"*/{CONFIG_FILE}")]
    return []


def weight_files(config: ModelConfig) -> list[str]:
    """Return the names of the weights that lie in a model's own folder."""
    prompts = [WEIGHTS_FILE] if config.stop is not None else []
    backbone = [config.weights.removeprefix("file:")] if config.weights.startswith("file:") else []
    return prompts + backbone + ([HEAD_FILE] if config.head is not None else [])


def _from_folder(name: str, folder: Path, get: Fetch) -> ModelFiles:
    config = read_config(folder)
    return _with_backbone(name, config, folder, get).require_own_backbone()


def _from_hub(name: str, source: str, get: Fetch) -> ModelFiles:
    from huggingface_hub import try_to_load_from_cache

    repo, revision = split_hub_name(source)
    try:
        path = get(repo, CONFIG_FILE, revision)
        ours = "format" in read_json(path)
    except (ModelNotFound, ValueError, TypeError):
        ours = False
    except OfflineError:  # unless the cache holds what an open_clip repository has instead
        if not isinstance(try_to_load_from_cache(repo, OPEN_CLIP_FILE, revision=revision), str):
            raise
        ours = False
    if ours:
        folder = path.parent  # its name is the commit: the other files must be of the same state
        config = read_config(folder)
        for file in weight_files(config):
            get(repo, file, folder.name)
        if (config.backbone_config or {}).get("text_cfg", {}).get("hf_tokenizer_name"):
            for file in TOKENIZER_FILES:  # where it brings its own
                with suppress(ModelNotFound, OfflineError):
                    get(repo, f"{TOKENIZER_FOLDER}/{file}", folder.name)
        return _from_folder(name, folder, get)
    path = get(repo, OPEN_CLIP_FILE, revision)  # an open_clip repository: plain CLIP
    towers, preprocess = _open_clip_config(path)
    config = ModelConfig(repo, source, None, 12, backbone_config=towers, preprocess=preprocess)
    commit = path.parent.name  # the weights must be of the same state

    def pinned(other: str, file: str, wanted: str | None = None) -> Path:
        return get(other, file, commit if other == repo else wanted)

    return _with_backbone(name, config, None, pinned)


def _open_clip_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an open_clip repository's towers and preprocessing; raises CheckpointError."""
    from pydantic import ValidationError

    from stopcli.model.schema import OpenClipFile, first_fault

    try:
        file = OpenClipFile.model_validate(metadata := read_json(path))
    except ValidationError as error:
        raise CheckpointError(f"{path}: not a CLIP that stopcli runs: {first_fault(error)}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    return metadata["model_cfg"], file.preprocess_cfg.model_dump(exclude_none=True)


def _with_backbone(name: str, config: ModelConfig, folder: Path | None, get: Fetch) -> ModelFiles:
    """Add to a model's config what its backbone needs: weights, preprocessing, the tokenizer's files."""
    settings = config.backbone_config or read_architecture(config.architecture)
    words = _words(config, settings or {}, folder, get)
    backbone, wishes = _backbone(config, folder, get)
    preprocess = preprocess_of(config.architecture, settings, wishes | (config.preprocess or {}))
    return ModelFiles(
        name, replace(config, preprocess=preprocess.to_dict()), folder, backbone, preprocess, words
    )


def _backbone(config: ModelConfig, folder: Path | None, get: Fetch) -> tuple[Path, dict[str, Any]]:
    """Return open_clip's state dict and its preprocessing, from where ``config`` says."""
    weights = config.weights
    if weights.startswith("file:") and folder is not None:
        file = folder / weights.removeprefix("file:")
        if not is_file(file):
            raise ModelNotFound(f"{folder}: its backbone {file.name[:80]} is not there")
        return file, _usual_frames(config)
    if weights.startswith("hf:"):
        try:
            repo, revision = split_hub_name(weights)
        except UsageError as error:
            raise CheckpointError(f"{folder}: its backbone: {error}") from error
        file = _weights(repo, revision, get)
        with suppress(ModelNotFound):  # not all say how they want their frames
            if not _says_all(config.preprocess):
                towers, frames = _open_clip_config(get(repo, OPEN_CLIP_FILE, file.parent.name))
                _require_activation(config, weights, bool(towers.get("quick_gelu")))
                return file, frames
        return file, _usual_frames(config)
    import open_clip

    metadata = open_clip.get_pretrained_cfg(config.architecture, weights)
    if not metadata or not metadata.get("hf_hub"):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(config.architecture)) or "none"
        raise ModelNotFound(f"open_clip has no weights {weights!r} for {config.architecture}; it has {tags}")
    _require_activation(config, weights, bool(metadata.get("quick_gelu")))
    repo, _, file_name = metadata["hf_hub"].rpartition("/")
    return _weights(repo, None, get, re.sub(r"\.(bin|pt|pth)$", ".safetensors", file_name)), metadata


def _require_activation(config: ModelConfig, weights: str, quick: bool) -> None:
    """Raise CheckpointError if weights of OpenAI's quick GELU, or of GELU, would meet the other one."""
    settings = config.backbone_config or read_architecture(config.architecture) or {}
    if quick != bool(settings.get("quick_gelu")):
        name = config.architecture.removesuffix("-quickgelu")
        problem = f"{config.architecture}: its weights {weights!r} were trained with another activation"
        raise CheckpointError(f"{problem}; use the architecture {name}{'-quickgelu' if quick else ''}")


def _says_all(preprocess: dict[str, Any] | None) -> bool:
    """Whether a model leaves nothing of its frames to its weights; what `Preprocess.to_dict` gives does."""
    said = set(preprocess or ())
    return {"mean", "std", "interpolation"} <= said and bool({"fit", "resize_mode"} & said)


def _usual_frames(config: ModelConfig) -> dict[str, Any]:
    """Return how open_clip's weights of an architecture want their frames; {} where they do not agree.

    For weights that do not say it themselves. OpenAI's architectures are not looked up: importing open_clip
    takes a second or two.
    """
    name = config.architecture
    openai = name.removesuffix("-quickgelu") in OPENAI
    if _says_all(config.preprocess) or openai or not read_architecture(name):
        return {}
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    known = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    ways = [{key: c.get(key) for key in ("mean", "std", "interpolation", "resize_mode")} for c in known]
    return ways[0] if ways and all(way == ways[0] for way in ways) else {}


def _weights(repo: str, revision: str | None, get: Fetch, name: str = "") -> Path:
    """Fetch a repository's state dict, under one of the names that are in use."""
    for file in filter(None, (name, BACKBONE_FILE, "open_clip_pytorch_model.safetensors")):
        try:
            return get(repo, file, revision)
        except ModelNotFound as error:
            if "no such file" not in str(error):
                raise
    found = f"{repo} holds no {name or BACKBONE_FILE}"
    raise ModelNotFound(f"{found}; pickled weights (.bin, .pt) are not read, they can run code")


def _words(config: ModelConfig, settings: dict[str, Any], folder: Path | None, get: Fetch) -> Path | None:
    """Return the folder of a tokenizer that is not CLIP's own, and of its text tower's settings; or None.

    They are fetched from where open_clip has them, unless the model's own folder holds them.
    """
    text = settings.get("text_cfg", {})
    repo = text.get("hf_tokenizer_name")
    if not repo:
        return None
    require_transformers(config.architecture)  # before much is fetched
    if folder is not None and is_folder(folder / TOKENIZER_FOLDER):
        return folder / TOKENIZER_FOLDER
    first, fault = get(repo, "tokenizer_config.json", None), None
    for name in VOCABULARIES:
        try:
            get(repo, name, first.parent.name)
            break
        except ModelNotFound as error:
            fault = fault or error
    else:
        raise fault or ModelNotFound(f"{repo}: holds no tokenizer")
    needed = {"config.json"} if text.get("hf_model_name") else set()
    for name in ("special_tokens_map.json", "config.json"):
        try:
            get(repo, name, first.parent.name)
        except (ModelNotFound, OfflineError):
            if name in needed:
                raise
    return first.parent
