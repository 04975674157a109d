"""A picture file, made square as frames of videos are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import UnreadableVideo
from stopcli.video.pixels import Framing, Scaler
from stopcli.video.reader import check_file, check_size

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # Pillow's decoders that pictures come in


def _in_eight_bits(image: Any) -> Any:
    """Return a picture of deeper grey levels in 256 of them; Pillow itself would cut off what is brighter."""
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    levels = np.asarray(image, np.float64)
    most = levels.max(initial=0.0)
    white = 1.0 if image.mode == "F" and most <= 1 else 255.0 if most <= 255 else max(65535.0, most)
    return Image.fromarray((levels.clip(0) / white * 255).round().astype(np.uint8))


def read_photo(path: str | Path, size: int | Framing) -> NDArray[np.uint8]:
    """Read a picture -> (S,S,3) uint8 RGB, turned upright; of an animation, the first picture.

    Raises FileMissing, UnreadableVideo or VideoTooLarge.
    """
    import av
    from PIL import Image, ImageOps

    check_file(Path(path))
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_size(path, image.width, image.height)
            upright = _in_eight_bits(ImageOps.exif_transpose(image)).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        kinds = ", ".join(FORMATS)
        raise UnreadableVideo(f"{path}: not a picture that can be read ({kinds} can)") from error
    ground = Image.new("RGBA", upright.size, (127, 127, 127, 255))  # behind what is transparent
    pixels = np.asarray(Image.alpha_composite(ground, upright).convert("RGB"))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return Scaler().to_pixels(frame, Framing.of(size), None)
