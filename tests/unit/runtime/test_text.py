"""The text tower in NumPy is open_clip's, to rounding; what it does not know it leaves alone."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import toy_words
from conftest import TOY_CONFIG
from stopcli.errors import CheckpointError
from stopcli.hub.registry import resolve
from stopcli.model.loading import embed_texts_alone
from stopcli.model.towers.tokens import BytePairs
from stopcli.runtime import numpy_text
from stopcli.runtime import text as text_module
from stopcli.runtime.numpy_text import embed_texts, unread_words
from stopcli.runtime.text import TextEncoder

TEXTS = (
    "a man cooking",
    'It\'s  A fox &amp;amp; a "dog" — naïve café 日本語 🦊\n',
    "don't they'll we're i'm 12345 !!! ...",
    "<start_of_text> <end_of_text> hm",
    "ﬁne ＡＢＣ schÃ¶n \u2028 \x07",
    "word " * 200,
    "supercalifragilisticexpialidocious" * 4,
)


def test_tokens_are_those_of_open_clip():
    import open_clip

    theirs = open_clip.SimpleTokenizer(context_length=77)
    ours = BytePairs(77)
    rng = np.random.default_rng(0)
    noise = ["".join(chr(c) for c in rng.integers(1, 0xD7FF, 12)) for _ in range(200)]
    for text in (*TEXTS, *noise):
        expected = theirs([text])[0]
        found = ours(text)
        assert found == expected[: len(found)].tolist(), repr(text)
        assert not expected[len(found) :].any(), repr(text)


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_embeddings_are_those_of_open_clip(tmp_path, plain, quick_gelu, dtype):
    from safetensors.torch import load_file

    folder = shutil.copytree(plain, tmp_path / "model")
    told = json.loads((folder / "config.json").read_text())
    told["backbone"]["config"]["quick_gelu"] = quick_gelu
    (folder / "config.json").write_text(json.dumps(told))
    state = load_file(folder / "backbone.safetensors")
    save_file({k: v.to(dtype) for k, v in state.items()}, folder / "backbone.safetensors")
    files = resolve(str(folder))
    found, expected = embed_texts(files, TEXTS), embed_texts_alone(files, TEXTS)
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)


def test_a_real_architecture_is_known_by_name(tmp_path):
    from stopcli.model.checkpoint import build_backbone
    from stopcli.model.config import ModelConfig
    from stopcli.model.files import ModelFiles

    torch.manual_seed(0)
    backbone = build_backbone("ViT-B-32-quickgelu", None)
    file = tmp_path / "backbone.safetensors"
    save_file({k: v.half().contiguous() for k, v in backbone.clip.state_dict().items()}, file)
    config = ModelConfig("ViT-B-32-quickgelu", "file:backbone.safetensors", None, 12)
    files = ModelFiles("b32", config, tmp_path, file, backbone.preprocess)
    found, expected = embed_texts(files, TEXTS), embed_texts_alone(files, TEXTS)
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("change", ["another tower", "bf16", "pickled", "not of this layout", "too large"])
def test_what_it_does_not_know_it_leaves_to_torch(tmp_path, plain, change):
    files = resolve(str(shutil.copytree(plain, tmp_path / "model")))
    if change == "another tower":
        text = {**TOY_CONFIG["text_cfg"], "embed_cls": True}
        config = replace(files.config, backbone_config={**TOY_CONFIG, "text_cfg": text})
        files = replace(files, config=config)
    elif change == "bf16":
        save_file({"positional_embedding": torch.ones(2, 2, dtype=torch.bfloat16)}, files.backbone)
    elif change == "pickled":
        files = replace(files, backbone=files.backbone.with_suffix(".pt"))
    elif change == "too large":
        tensors = load_file(files.backbone) | {"transformer.x": torch.ones(1 << 20)}
        save_file(tensors, files.backbone)
    else:
        save_file({"positional_embedding": torch.ones(2, 2)}, files.backbone)
    assert embed_texts(files, ["a fox"]) is None


def test_many_texts_are_left_to_torch_and_come_out_the_same(plain, monkeypatch, tmp_path):
    monkeypatch.setenv("STOPCLI_HOME", str(tmp_path))
    files, texts = resolve(str(plain)), [f"a fox and {'cows ' * (i % 7)}{i}" for i in range(300)]
    few = np.concatenate([TextEncoder(files).encode(texts[i : i + 49]) for i in range(0, 300, 49)])
    monkeypatch.setattr(numpy_text, "embed_texts", None)  # one by one is slow
    np.testing.assert_allclose(TextEncoder(files).encode(texts), few, atol=1e-5)


def test_lists_not_used_for_long_are_forgotten(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("STOPCLI_HOME", str(tmp_path))
    monkeypatch.setattr(text_module, "KEPT", 3)
    files, asked = resolve(str(toy)), []

    def tower(new):
        asked.append(new[0])
        return np.eye(1, 4, dtype=np.float32).repeat(len(new), 0)

    def encode(name):
        TextEncoder(files, tower).encode([f"{name} {i}" for i in range(60)])
        for file in tmp_path.rglob("*.npy"):  # time goes by
            os.utime(file, (file.stat().st_mtime - 10,) * 2)

    for name in ("a", "b", "c", "a", "d"):  # b was used longest ago
        encode(name)
    assert len(list(tmp_path.rglob("*.npy"))) == 3
    asked.clear()
    for name in ("a", "c", "d", "b"):
        encode(name)
    assert asked == ["b 0"]


def test_a_long_list_is_embedded_once_for_all_runs(toy):
    texts, asked = [f"label {i}" for i in range(60)], []

    def tower(new):
        asked.append(list(new))
        vectors = np.random.default_rng(len(new)).normal(size=(len(new), 4)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    files = resolve(str(toy))
    first = TextEncoder(files, tower).encode(texts)
    assert np.array_equal(TextEncoder(files, tower).encode(texts), first)
    assert asked == [texts]
    TextEncoder(files, tower, "bf16 on cuda").encode(texts)  # another precision, other vectors
    TextEncoder(files, tower).encode(texts[1:])
    assert asked == [texts, texts, texts[1:]]
    for file in (Path(os.environ["STOPCLI_HOME"]) / "texts").iterdir():
        file.write_bytes(file.read_bytes()[:-8])  # cut short: computed again
    assert np.array_equal(TextEncoder(files, tower).encode(texts), first)
    assert len(asked) == 4


FAMILIES = {  # how text towers differ from CLIP's; "words" is the kind of tokenizer
    "Perception Encoder": {"context_length": 32},
    "MobileCLIP2": {"no_causal_mask": True},
    "SigLIP2": {
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
        "vocab_size": 300,
        "words": "siglip2",
    },
    "last of a causal one": {"pool_type": "last"},
    "MetaCLIP 2": {"pool_type": "eos", "eos_id": 1, "vocab_size": 300, "words": "siglip2"},
    "CLIPA": {"no_causal_mask": True, "pool_type": "last", "vocab_size": 300, "words": "bert"},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_text_towers_of_other_families(tmp_path, family):
    from stopcli.model.checkpoint import build_backbone
    from stopcli.model.config import ModelConfig
    from stopcli.model.files import ModelFiles

    more = dict(FAMILIES[family])
    words = more.pop("words", None)
    if words:
        toy_words.KINDS[words](tmp_path)
        more["hf_tokenizer_name"] = "some/one"
    settings = TOY_CONFIG | {"text_cfg": TOY_CONFIG["text_cfg"] | more, "custom_text": True}
    torch.manual_seed(0)
    backbone = build_backbone("toy", settings)
    for parameter in backbone.clip.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    file = tmp_path / "backbone.safetensors"
    save_file({k: v.contiguous() for k, v in backbone.clip.state_dict().items()}, file)
    config = ModelConfig("toy", "file:backbone.safetensors", None, 12, backbone_config=settings)
    files = ModelFiles("toy", config, tmp_path, file, backbone.preprocess, tmp_path)
    found, expected = embed_texts(files, TEXTS), embed_texts_alone(files, TEXTS)
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(found[0] - found[2]).max() > 0.01


def test_the_words_that_are_not_read_are_named(plain):
    files = resolve(str(plain))
    text = " ".join(f"word{i}" for i in range(40))
    unread = unread_words(files, text)
    kept = " ".join(text.split()[: -len(unread)])
    length = files.tokenizer().length
    assert files.tokenizer().count(kept) <= length < files.tokenizer().count(f"{kept} {unread[0]}")
    assert unread == text.split()[-len(unread) :]
    assert unread_words(files, "a dog") == []


def test_a_text_tower_without_some_of_clips_tokens_is_told(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["backbone"]["config"]["text_cfg"]["vocab_size"] = 300
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="knows 300 tokens, and CLIP's tokenizer has 49408"):
        TextEncoder(resolve(str(folder))).encode(["a dog"])
