"""How a vision tower wants its frames; no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from stopcli.errors import CheckpointError

Fit = Literal["crop", "squash", "pad"]
Interpolation = Literal["bicubic", "bilinear"]

RESIZE_MODES: dict[str, Fit] = {"shortest": "crop", "squash": "squash", "longest": "pad"}  # open_clip's words
MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's CLIP, as in open_clip.constants
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """What is done to a frame before a tower sees it."""

    size: int  # side of the square, pixels
    fit: Fit = "crop"  # how a frame that is no square becomes one: its middle, all of it squeezed, black bars
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = MEAN  # of red, green and blue in [0,1]
    std: tuple[float, ...] = STD

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; the size is the architecture's."""
        values = asdict(self)
        del values["size"]
        return values | {"mean": list(self.mean), "std": list(self.std)}


def preprocess_of(
    architecture: str, settings: Mapping[str, Any] | None, wishes: Mapping[str, Any]
) -> Preprocess:
    """Return how an architecture (open_clip's settings of it) wants frames.

    ``wishes`` are values of `Preprocess`, or of open_clip's preprocess config; what they do not say is as in
    CLIP. CheckpointError: frames that are no squares, or a way of resizing that is not known.
    """
    side = ((settings or {}).get("vision_cfg") or {}).get("image_size", 224)
    sides = side if isinstance(side, list | tuple) else (side, side)
    if len(set(sides)) != 1:
        problem = f"frames of {'x'.join(map(str, sides))}; only squares are supported"
        raise CheckpointError(f"{architecture}: {problem}")
    mode, found = wishes.get("resize_mode"), {}
    if mode is not None:
        found["fit"] = RESIZE_MODES.get(mode, mode)
    found |= {name: wishes[name] for name in ("fit", "interpolation") if wishes.get(name) is not None}
    for name, known in (("fit", get_args(Fit)), ("interpolation", get_args(Interpolation))):
        if name in found and found[name] not in known:
            problem = f"wants frames resized by {found[name]!r}, which is none of {', '.join(known)}"
            raise CheckpointError(f"{architecture}: {problem}")
    found |= {name: tuple(wishes[name]) for name in ("mean", "std") if wishes.get(name) is not None}
    return Preprocess(int(sides[0]), **found)
