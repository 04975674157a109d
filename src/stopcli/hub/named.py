"""The models that have a name of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MINI = "mini"


@dataclass(frozen=True)
class NamedModel:
    """A model that has a name of its own; ``weights`` as in config.json, ``prompts`` a Hub name."""

    name: str
    architecture: str
    weights: str
    parameters: int  # millions, of both towers
    license: str
    description: str
    frames: int = 12
    prompts: str | None = None  # None is plain CLIP
    preprocess: dict[str, Any] = field(default_factory=dict)  # what is not as in OpenAI's CLIP


_WORLD = "knows only its generated world: 48 drawn objects in 10 motions (bundled)"
_HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "fit": "squash"}
_PE = _HALF | {"interpolation": "bilinear"}
_MOBILE = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear"}
_MANY = "SigLIP 2, many languages; needs stopcli[multilingual]"
_TIMM, _LABS = "hf:timm/", "Apple, research only"
_NAMED = (
    NamedModel(MINI, "stop-mini", "file:backbone.safetensors", 9, "Apache-2.0", _WORLD, 8),
    *(
        NamedModel(
            f"vit-{size.lower()}",
            f"ViT-{size}-quickgelu",
            f"hf:timm/vit_{kind}_clip_224.openai",
            parameters,
            "MIT",
            f"OpenAI CLIP: {advice}",
        )
        for size, kind, parameters, advice in (
            ("B-32", "base_patch32", 151, "quickest on a laptop; what STOP was published on"),
            ("B-16", "base_patch16", 150, "four times the work of vit-b-32, finer"),
            ("L-14", "large_patch14", 428, "for a GPU"),
        )
    ),
    NamedModel(
        "pe-core-b-16",
        "PE-Core-B-16",
        f"{_TIMM}PE-Core-B-16",
        448,
        "Apache-2.0",
        "Perception Encoder: the best start for real footage, with a GPU or patience",
        preprocess=_PE,
    ),
    NamedModel(
        "pe-core-l-14",
        "PE-Core-L-14-336",
        f"{_TIMM}PE-Core-L-14-336",
        671,
        "Apache-2.0",
        "Perception Encoder, large: for a GPU",
        preprocess=_PE,
    ),
    NamedModel(
        "siglip2-b-16",
        "ViT-B-16-SigLIP2",
        f"{_TIMM}ViT-B-16-SigLIP2",
        375,
        "Apache-2.0",
        _MANY,
        preprocess=_HALF,
    ),
    NamedModel(
        "siglip2-so400m",
        "ViT-SO400M-14-SigLIP2",
        f"{_TIMM}ViT-SO400M-14-SigLIP2",
        1136,
        "Apache-2.0",
        f"{_MANY}, a GPU",
        preprocess=_HALF,
    ),
    NamedModel(
        "mobileclip2-s0",
        "MobileCLIP2-S0",
        f"{_TIMM}MobileCLIP2-S0-OpenCLIP",
        75,
        _LABS,
        "smallest; takes no prompts",
        preprocess=_MOBILE,
    ),
    NamedModel(
        "mobileclip2-b",
        "MobileCLIP2-B",
        f"{_TIMM}MobileCLIP2-B-OpenCLIP",
        150,
        _LABS,
        "as vit-b-16, from better data",
        preprocess=_MOBILE,
    ),
)
ENTRIES = {model.name: model for model in _NAMED}
