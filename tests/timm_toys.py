"""Small towers of every structure, as open_clip's settings; timm's are registered under names of their own."""

from __future__ import annotations

import torch
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from stopcli.model.checkpoint import build_backbone

SIZE, PATCH, WIDTH = 48, 16, 48
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
OWN = {"image_size": SIZE, "patch_size": PATCH, "width": WIDTH, "layers": 2, "head_width": 16}
SHAPE = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": 2, "num_heads": 3}
ROTARY = {"use_abs_pos_emb": False, "use_rot_pos_emb": True, "ref_feat_shape": (3, 3)}
PLACES = {"use_abs_pos_emb": True, "use_rot_pos_emb": True, "ref_feat_shape": (3, 3)}


def without(kwargs):
    return {k: v for k, v in kwargs.items() if not k.startswith("pretrained") and k != "cache_dir"}


@register_model
def vit_toy(**kwargs):
    return VisionTransformer(**SHAPE | without(kwargs))


@register_model
def vit_toy_unclassed(**kwargs):
    return VisionTransformer(**SHAPE | {"class_token": False} | without(kwargs))


@register_model
def eva_toy(**kwargs):
    return Eva(**SHAPE | PLACES | {"swiglu_mlp": True, "scale_mlp": True} | without(kwargs))


@register_model
def eva_toy_split(**kwargs):
    return Eva(**SHAPE | ROTARY | {"qkv_fused": False, "rope_rotate_half": True} | without(kwargs))


@register_model
def eva_toy_post_norm(**kwargs):
    return Eva(**SHAPE | {"use_post_norm": True} | without(kwargs))


@register_model
def vit_pe_core_toy(**kwargs):
    return Eva(**SHAPE | PLACES | {"attn_pool_num_heads": 3, "attn_pool_mlp_ratio": 2.0} | without(kwargs))


@register_model
def vit_pe_core_toy_unclassed(**kwargs):
    more = {"class_token": False, "attn_pool_num_heads": 3, "attn_pool_mlp_ratio": 2.0}
    return Eva(**SHAPE | PLACES | more | without(kwargs))


def timm(name, pool, proj=None):
    return {"image_size": SIZE, "timm_model_name": name, "timm_pool": pool, "timm_proj": proj}


TOWERS = {  # name: (vision settings, kind, class tokens)
    "class token": (OWN, "open_clip ViT", 1),
    "CLIPA": (OWN | {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}, "open_clip ViT", 1),
    "CoCa": (OWN | {"attentional_pool": True, "attn_pooler_queries": 4}, "open_clip ViT", 1),
    "MobileCLIP": (timm("vit_toy", "token"), "timm ViT", 1),
    "SigLIP": (timm("vit_toy_unclassed", "map", "none"), "timm ViT", 0),
    "ViTamin": (timm("vit_toy_unclassed", "avg"), "timm ViT", 0),
    "EVA-02": (timm("eva_toy", "token"), "timm Eva", 1),
    "rotary, half": (timm("eva_toy_split", "token"), "timm Eva", 1),
    "EVA-02-E": (timm("eva_toy_post_norm", "token"), "timm Eva", 1),
    "PE-Core": (timm("vit_pe_core_toy", "map"), "timm Eva", 1),
    "PE-Core-G": (timm("vit_pe_core_toy_unclassed", "map"), "timm Eva", 0),
}


def settings_of(name):
    return {"embed_dim": WIDTH, "vision_cfg": TOWERS[name][0], "text_cfg": TEXT, "custom_text": True}


def backbone_of(name):
    """Build a tower whose parameters all matter."""
    torch.manual_seed(0)
    backbone = build_backbone("toy", settings_of(name))
    for parameter in backbone.clip.visual.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return backbone
