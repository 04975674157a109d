"""What mini's backbone is: an open_clip CLIP small enough to train on two CPU cores."""

from __future__ import annotations

NAME = "stop-mini"
FRAMES = 8
CONFIG = {
    "embed_dim": 192,
    "vision_cfg": {"image_size": 96, "layers": 4, "width": 192, "head_width": 48, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 3},
}
# the sentences around a caption that both trainings use
TEMPLATES = ("{}", "{}", "a video of {}", "a photo of {}", "a clip of {}", "this is {}")
