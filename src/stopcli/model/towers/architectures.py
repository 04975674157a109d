"""What open_clip's own files say of towers and words, read without importing it; no torch here either."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stopcli.errors import UsageError

CLIP = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
VISION = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}
CORRECTIONS = {"ViTamin-XL-384": {"image_size": 384}}  # its file says 256, which its tower refuses
POOLS = {  # what the readout is made of
    "tok": "class token",
    "token": "class token",
    "avg": "mean",
    "map": "attention",
    "attention": "attention",
    "class + map": "class token and attention",
}
TIMM = (  # the beginning of a timm name, the kind of tower, why STOP cannot run it
    ("vit_relpos", "timm ViT", "patches placed relative to each other"),
    ("vit_pe_core", "timm Eva", None),
    ("eva", "timm Eva", None),
    ("vit", "timm ViT", None),
    ("convnext", "ConvNeXt", "no ViT blocks"),
    ("fastvit", "FastViT", "no ViT blocks"),
    ("swin", "Swin", "no ViT blocks"),
)
CLASS_AND_POOL = ("vit_pe_core_tiny", "vit_pe_core_small", "vit_pe_core_base", "vit_pe_core_large")
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
    settings["vision_cfg"] |= CORRECTIONS.get(name, {})
    return settings


def list_architectures() -> list[str]:
    """Return the names of all architectures that open_clip lists."""
    folder = open_clip_folder()
    return sorted(f.stem for f in (folder / "model_configs").glob("*.json")) if folder else []


@cache
def timm_names() -> frozenset[str]:
    """Return timm's names of all vision towers in open_clip's list."""
    settings = (read_architecture(name) or {"vision_cfg": {}} for name in list_architectures())
    return frozenset(filter(None, (s["vision_cfg"].get("timm_model_name") for s in settings)))


def has_transformers() -> bool:
    """Say whether the library that reads texts of other kinds than CLIP's is installed."""
    return find_spec("transformers") is not None


def require_transformers(architecture: str) -> None:
    """Raise UsageError if the library that reads an architecture's texts is not installed."""
    if not has_transformers():
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


@dataclass(frozen=True)
class Structure:
    """What kind of CLIP an architecture is."""

    kind: str  # of vision tower, for people
    size: int  # side of a frame, pixels
    context: int  # tokens of a text
    languages: str
    prompts: bool  # STOP's prompts can be trained
    note: str | None  # why not
    transformers: bool  # texts need the transformers library


def structure_of(settings: dict[str, Any]) -> Structure:
    """Return an architecture's structure, from open_clip's settings alone."""
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    kind, note = _kind(vision)
    side = vision.get("image_size", 224)
    return Structure(
        kind=kind,
        size=int(side[0] if isinstance(side, list) else side),
        context=int(text.get("context_length", 77)),
        languages=languages(settings),
        prompts=note is None,
        note=note,
        transformers=bool(text.get("hf_tokenizer_name") or text.get("hf_model_name")),
    )


def _kind(vision: dict[str, Any]) -> tuple[str, str | None]:
    """Return the kind of vision tower and, if STOP cannot run it, why."""
    name, pool = vision.get("timm_model_name"), vision.get("timm_pool") or "avg"
    if name is None:
        if isinstance(vision.get("layers"), list):
            return "ResNet", "no ViT blocks"
        pools = "attention" if vision.get("attentional_pool") else vision.get("pool_type", "tok")
        return f"open_clip ViT, {POOLS[pools]}", None
    for start, kind, note in TIMM:
        if name.startswith(start):
            pool = POOLS.get("class + map" if name.startswith(CLASS_AND_POOL) else pool, pool)
            return (f"{kind}, {pool}" if note is None else kind), note
    return f"timm {name}", "not known to have ViT blocks"
