"""What of a model folder goes to the Hub, and its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stopcli.errors import CheckpointError
from stopcli.fileio import to_json, write_text
from stopcli.hub.card import CARD_FILE, card_data, model_card, without_paths
from stopcli.hub.registry import weight_files
from stopcli.model.config import CONFIG_FILE, TOKENIZER_FOLDER, read_config
from stopcli.model.towers.tokens import TOKENIZER_FILES


def publishable(folder: Path, license: str | None = None) -> dict[str, Path | bytes]:
    """Check a model folder, write its card, and return the files to publish by their names.

    The settings are published without the paths of this machine. A card that a person has written on
    keeps its text; with a license, its front matter is renewed. ``license`` None is that of the settings.

    Raises:
        CheckpointError: it is no model folder, lacks a file, holds a link to one elsewhere, or its card has a
            broken front matter.
        CannotWrite: the card cannot be written.
    """
    config = read_config(folder)
    needed = [CONFIG_FILE, *weight_files(config)]
    for name in needed:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: lacks {name}; is the training finished?")
    names = [*needed, *(f"{TOKENIZER_FOLDER}/{name}" for name in TOKENIZER_FILES)]
    names += [CARD_FILE, "metrics.jsonl", "curve.png", "confusion.png"]
    inside = folder.resolve()
    for file in (folder / name for name in names):
        if not file.resolve().is_relative_to(inside):
            raise CheckpointError(f"{file}: leads out of the folder; put the file itself there, or delete it")
    values = config.to_dict()
    title, license = folder.resolve().name, license or config.extra.get("license")
    card = folder / CARD_FILE
    if not card.is_file():
        write_text(card, model_card(title, values, license))
    elif license is not None:
        write_text(card, _renewed(card, title, values, license))
    files: dict[str, Path | bytes] = {n: folder / n for n in names if (folder / n).is_file()}
    published = {**values, **without_paths(config.extra)}
    if published != values:
        files[CONFIG_FILE] = to_json(published, 2).encode()
    return files


def _renewed(path: Path, title: str, values: dict[str, Any], license: str) -> str:
    """Return a card with the license and scores of today, and every other word as it was."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is no text in UTF-8; save it as such, or delete the file") from error
    if not text.startswith("---\n"):
        text = f"---\n\n---\n{text}"
    try:
        card = ModelCard(text, ignore_metadata_errors=True)
    except (ValueError, YAMLError) as error:
        reason = f"its front matter is no YAML ({' '.join(str(error).split())})"
        raise CheckpointError(f"{path}: {reason}; fix it or delete the file") from error
    for key, value in vars(card_data(title, values, license)).items():
        if key in ("license", "eval_results", "model_name") or card.data.get(key) is None:
            card.data[key] = value
    return str(card)
