"""Toy towers of several shapes, and STOP on them."""

from __future__ import annotations

import torch

from stopcli.model.checkpoint import build_backbone
from stopcli.model.config import StopConfig
from stopcli.model.stop import Stop

SHAPES = {
    "patch16-96": {"image_size": 96, "patch_size": 16, "width": 64, "layers": 3, "head_width": 32},
    "patch14-70": {"image_size": 70, "patch_size": 14, "width": 96, "layers": 2, "head_width": 48},
    "patch32-64": {"image_size": 64, "patch_size": 32, "width": 48, "layers": 2, "head_width": 16},
}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
SETTINGS = {"regions": 1 / 12, "eta": 3, "hidden": 16}


def tower(shape="patch16-96", **extra):
    torch.manual_seed(0)
    return build_backbone("toy", {"embed_dim": 40, "vision_cfg": SHAPES[shape], "text_cfg": TEXT, **extra})


def stop(shape="patch16-96", trained=True, **settings):
    torch.manual_seed(1)
    model = Stop(tower(shape), StopConfig(**{**SETTINGS, **settings})).eval()
    if trained:  # leave the no-op start, so that every path has an effect
        for parameter in model.prompts.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        if hasattr(model.prompts, "gamma"):
            torch.nn.init.normal_(model.prompts.gamma, mean=2.0)
    return model


def clips(model, batch, frames=5, seed=0):
    size = model.backbone.preprocess.size
    return torch.randn(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(seed))


MODES = [("dynamic", "dynamic"), ("dynamic", "off"), ("off", "dynamic"), ("static", "static"), ("off", "off")]
