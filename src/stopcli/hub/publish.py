"""What of a model folder goes to the Hub, and its card."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stopcli.errors import CheckpointError
from stopcli.hub.card import CARD_FILE, front_matter, model_card
from stopcli.model.config import CONFIG_FILE, WEIGHTS_FILE, read_config

if TYPE_CHECKING:
    from pathlib import Path

WITH_IT = ("metrics.jsonl", "curve.png", "confusion.png")


def publishable(folder: Path, license: str | None) -> list[str]:
    """Check a model folder, give its card the license, and return the names of its files to publish.

    A card that a person has written on is kept; only its front matter is renewed.

    Raises:
        CheckpointError: it is no model folder, or lacks a file.
    """
    config = read_config(folder)
    told = config.to_dict()
    names = [CONFIG_FILE]
    if config.stop is not None:
        names.append(WEIGHTS_FILE)
    if config.weights.startswith("file:"):
        names.append(config.weights.removeprefix("file:"))
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: lacks {name}; is the training finished?")
    license = license or config.extra.get("license")
    path = folder / CARD_FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else model_card(folder.resolve().name, told)
    if license is not None or not path.is_file():
        body = text.split("---\n", 2)[2] if text.startswith("---\n") and text.count("---\n") >= 2 else text
        part = folder / f".{CARD_FILE}.part"
        part.write_text(front_matter(told, license) + body, encoding="utf-8")
        os.replace(part, path)
    return [*names, CARD_FILE, *(n for n in WITH_IT if (folder / n).is_file())]
