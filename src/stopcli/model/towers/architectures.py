"""What open_clip's own files say of towers and words, read without importing it; no torch here either."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stopcli.errors import UsageError

CLIP = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
VISION = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def open_clip_folder() -> Path | None:
    """Return where open_clip's data files lie."""
    spec = find_spec("open_clip")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def read_architecture(name: str) -> dict[str, Any] | None:
    """Return the settings of an architecture that open_clip lists."""
    folder = open_clip_folder()
    file = folder and folder / "model_configs" / f"{name.replace('/', '-')}.json"
    if not file or not file.is_file():
        return None
    settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return settings


def list_architectures() -> list[str]:
    """Return the names of all architectures that open_clip lists."""
    folder = open_clip_folder()
    return sorted(f.stem for f in (folder / "model_configs").glob("*.json")) if folder else []


def require_transformers(architecture: str) -> None:
    """Raise UsageError if the library that reads an architecture's texts is not installed."""
    if find_spec("transformers") is None:
        way = "pip install 'stopcli[multilingual]'"
        raise UsageError(f"{architecture}: its texts are read with the transformers library; {way}")


def languages(settings: dict[str, Any]) -> str:
    """Return which languages a text tower was trained on, as far as its vocabulary tells."""
    text = settings.get("text_cfg", {})
    words = f"{text.get('hf_tokenizer_name', '')} {text.get('hf_model_name', '')}".lower()
    many = any(name in words for name in ("siglip2", "i18n", "xlm", "mt5", "nllb"))
    return "many" if many else "English"


def has_standard_text(settings: dict[str, Any]) -> bool:
    """Say whether the text tower is that of CLIP as it was published."""
    return set(settings) <= CLIP and set(settings.get("text_cfg", ())) == TEXT


def is_standard(settings: dict[str, Any]) -> bool:
    """Say whether both towers are those of CLIP as it was published (arXiv 2103.00020)."""
    vision = settings.get("vision_cfg", {})
    whole = all(isinstance(vision.get(name, 0), int) for name in VISION - {"mlp_ratio"})
    return has_standard_text(settings) and set(vision) <= VISION and whole
