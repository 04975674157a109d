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
from safetensors.torch import save_file

from conftest import TOY_CONFIG
from stopcli.hub.registry import resolve
from stopcli.model.loading import embed_texts_alone
from stopcli.model.towers.tokens import BytePairs
from stopcli.runtime.numpy_text import embed_texts
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
    save_file({k: v.contiguous() for k, v in backbone.clip.state_dict().items()}, file)
    config = ModelConfig("ViT-B-32-quickgelu", "file:backbone.safetensors", None, 12)
    files = ModelFiles("b32", config, tmp_path, file, backbone.preprocess)
    found, expected = embed_texts(files, TEXTS), embed_texts_alone(files, TEXTS)
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("change", ["another tower", "bf16", "pickled", "not of this layout"])
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
    else:
        save_file({"positional_embedding": torch.ones(2, 2)}, files.backbone)
    assert embed_texts(files, ["a fox"]) is None


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
