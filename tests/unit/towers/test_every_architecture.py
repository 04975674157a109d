"""All architectures that open_clip lists: built, run once without numbers, and of the structure that we say."""

from __future__ import annotations

import json
import warnings
from collections import Counter

import pytest
import torch

from stopcli.model.clip import Backbone
from stopcli.model.config import StopConfig
from stopcli.model.preprocess import preprocess_of
from stopcli.model.schema import Towers
from stopcli.model.stop import Stop
from stopcli.model.towers.architectures import list_architectures, read_architecture, structure_of
from stopcli.model.towers.build import build_clip, tower_of
from timm_toys import OWN, TEXT

LIBRARY = {  # the settings that the transformers library has of them, made small
    "roberta": {"model_type": "roberta", "vocab_size": 100, "pad_token_id": 1},
    "xlm-roberta": {"model_type": "xlm-roberta", "vocab_size": 100, "pad_token_id": 1},
    "mt5": {"model_type": "mt5", "vocab_size": 100, "d_model": 64, "num_layers": 1, "num_heads": 2},
    "nllb": {"model_type": "m2m_100", "vocab_size": 100, "d_model": 64, "encoder_layers": 1},
}
SMALL = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
SMALL |= {"d_kv": 16, "d_ff": 64, "decoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}


def words_of(name, settings, folder):
    """Write what the transformers library knows of a text tower into a folder."""
    if not settings["text_cfg"].get("hf_model_name"):
        return None
    known = next(
        v for k, v in LIBRARY.items() if settings["text_cfg"]["hf_model_name"].split("/")[-1].startswith(k)
    )
    (folder / "config.json").write_text(json.dumps(SMALL | known))
    return folder


@pytest.mark.parametrize("name", list_architectures())
def test_it_can_be_built_and_run(name, tmp_path):
    settings = read_architecture(name)
    structure = structure_of(settings)
    words = words_of(name, settings, tmp_path)
    tokens = torch.zeros(1, structure.context, dtype=torch.long)
    if words is not None:  # the library looks at numbers, so its towers are run, small, on their own
        with torch.no_grad():
            clip = build_clip(settings | {"vision_cfg": OWN}, words).eval()
            assert clip.encode_text(tokens + 5).shape == (1, settings["embed_dim"])
        settings = settings | {"text_cfg": TEXT | {"context_length": structure.context}}
        settings.pop("multimodal_cfg", None)
        settings["vision_cfg"].pop("output_tokens", None)
    with torch.device("meta"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        clip = build_clip(settings).eval()
        pixels = torch.zeros(1, 2, 3, structure.size, structure.size)
        assert clip.encode_image(pixels[0]).shape == (2, settings["embed_dim"])
        assert clip.encode_text(tokens.to("meta")).shape == (1, settings["embed_dim"])
        tower = tower_of(clip)
        assert structure.prompts == (not isinstance(tower, str))
        if isinstance(tower, str):
            assert structure.note is not None
            return
        assert structure.kind.startswith(tower.kind)
        assert ("class token" in structure.kind) == bool(
            tower.prefix and (tower.class_only or "timm" in tower.kind)
        )
        backbone = Backbone(clip, name, settings["embed_dim"], preprocess_of(name, settings, {}), tower)
        model = Stop(backbone, StopConfig(spatial="static"))
        assert model.encode_video(pixels[None, 0]).shape == (1, settings["embed_dim"])


@pytest.mark.parametrize("name", list_architectures())
def test_its_settings_are_accepted_from_a_repository(name):
    Towers.model_validate(read_architecture(name))


def test_nothing_is_left_out():
    structures = {name: structure_of(read_architecture(name)) for name in list_architectures()}
    kinds = Counter(s.kind.split(",")[0] for s in structures.values())
    assert kinds == {
        "open_clip ViT": 56,
        "timm ViT": 48,
        "timm Eva": 12,
        "ConvNeXt": 11,
        "ResNet": 10,
        "FastViT": 6,
        "Swin": 1,
    }
    assert sum(s.prompts for s in structures.values()) == 115


@pytest.mark.parametrize(
    "name", ["PE-Core-T-16-384", "ViT-B-32-SigLIP2-256", "coca_ViT-B-32", "ViT-S-32-alt"]
)
def test_an_empty_one_takes_no_memory_and_has_real_buffers(name):
    settings = read_architecture(name)
    empty = build_clip(settings, empty=True)
    assert all(p.is_meta for p in empty.parameters())
    whole = dict(build_clip(settings).named_buffers())
    for buffer_name, buffer in empty.named_buffers():
        assert torch.equal(buffer, whole[buffer_name]), buffer_name


@pytest.mark.parametrize("name", ["ViTamin-S", "swin_base_patch4_window7_224"])
def test_one_that_must_run_to_be_built_is_built_whole(name):
    assert not any(t.is_meta for t in build_clip(read_architecture(name), empty=True).state_dict().values())
