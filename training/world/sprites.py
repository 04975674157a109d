"""Drawings of the objects, cut once from the Noto Color Emoji font into ``objects.png``.

Only to change the objects: ``python -m training.world.sprites NotoColorEmoji.ttf``.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.world.vocabulary import OBJECT_NAMES, OBJECTS

ATLAS = Path(__file__).with_name("objects.png")
SPRITE = 96  # pixels; side of one object in it
COLUMNS = 8
BITMAP = 109  # pixels; the size of the font's only bitmap strike


@functools.cache
def load_sprites() -> dict[str, Image.Image]:
    """Cut objects.png into one RGBA image an object."""
    atlas = Image.open(ATLAS).convert("RGBA")
    out = {}
    for i, name in enumerate(OBJECT_NAMES):
        x, y = i % COLUMNS * SPRITE, i // COLUMNS * SPRITE
        out[name] = atlas.crop((x, y, x + SPRITE, y + SPRITE))
    return out


def sprite_at(sprite: Image.Image, side: int, angle: float) -> Image.Image:
    """Return the drawing at a size in pixels, turned by degrees counter-clockwise."""
    return sprite.resize((side, side), Image.Resampling.BILINEAR).rotate(
        angle, Image.Resampling.BILINEAR, expand=True
    )


def tinted(rng: np.random.Generator, sprite: Image.Image) -> Image.Image:
    """Vary brightness, contrast and color a little, and mirror half of the objects."""
    rgba = np.asarray(sprite).astype(np.float32)
    rgb = rgba[..., :3]
    rgb = (rgb - 128) * rng.uniform(0.75, 1.2) + 128 + rng.uniform(-25, 25)
    rgb = rgb * rng.uniform(0.85, 1.15, 3)
    out = Image.fromarray(np.concatenate([rgb.clip(0, 255), rgba[..., 3:]], -1).astype(np.uint8))
    return out.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else out


def make_atlas(font_path: str) -> None:
    """Draw objects.png from a font."""
    font = ImageFont.truetype(font_path, BITMAP)
    rows = -(-len(OBJECTS) // COLUMNS)
    atlas = Image.new("RGBA", (COLUMNS * SPRITE, rows * SPRITE))
    for i, emoji in enumerate(OBJECTS.values()):
        cell = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(cell).text((12, 12), emoji, font=font, embedded_color=True)
        drawing = cell.crop(cell.getbbox())
        drawing.thumbnail((SPRITE, SPRITE), Image.Resampling.LANCZOS)
        x = i % COLUMNS * SPRITE + (SPRITE - drawing.width) // 2
        y = i // COLUMNS * SPRITE + (SPRITE - drawing.height) // 2
        atlas.paste(drawing, (x, y))
    atlas.save(ATLAS, optimize=True)


if __name__ == "__main__":
    make_atlas(sys.argv[1])
