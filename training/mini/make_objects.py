"""Cut ``objects.png`` from the Noto Color Emoji font: ``python make_objects.py NotoColorEmoji.ttf``.

Needed only to change the objects: the picture is kept beside this file.
"""

from __future__ import annotations

import sys

from PIL import Image, ImageDraw, ImageFont
from world import HERE, OBJECTS, SPRITE

BITMAP = 109  # pixels; the size of the font's only bitmap strike


def main(font_path: str) -> None:
    font = ImageFont.truetype(font_path, BITMAP)
    rows = -(-len(OBJECTS) // 8)
    atlas = Image.new("RGBA", (8 * SPRITE, rows * SPRITE))
    for i, emoji in enumerate(OBJECTS.values()):
        cell = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(cell).text((12, 12), emoji, font=font, embedded_color=True)
        drawing = cell.crop(cell.getbbox())
        drawing.thumbnail((SPRITE, SPRITE), Image.Resampling.LANCZOS)
        x = i % 8 * SPRITE + (SPRITE - drawing.width) // 2
        y = i // 8 * SPRITE + (SPRITE - drawing.height) // 2
        atlas.paste(drawing, (x, y))
    atlas.save(HERE / "objects.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
