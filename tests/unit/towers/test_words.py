"""Tokenizers that are not CLIP's own give the tokens that open_clip gives, from files at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from open_clip.tokenizer import HFTokenizer

import toy_words
from stopcli.errors import CheckpointError, UsageError
from stopcli.model.checkpoint import build_backbone
from stopcli.model.towers import architectures
from stopcli.model.towers.tokens import FromFiles, tokenizer_for

TEXTS = (
    "a dog",
    "  A Dog,   RUNS home!! ",
    "ein Hund läuft nach Hause &amp; bleibt",
    "犬が家に走る",
    "under_score and “quotes” \u200b 7",
    "word " * 90,
    "!!!",
)


@pytest.mark.parametrize("kind", toy_words.KINDS)
@pytest.mark.parametrize("clean", ["whitespace", "canonicalize", "lower"])
def test_tokens_are_those_of_open_clip(tmp_path, kind, clean):
    folder, strip = toy_words.KINDS[kind](tmp_path), kind == "bert"
    theirs = HFTokenizer(str(folder), 16, clean=clean, strip_sep_token=strip)
    ours = FromFiles(folder, 16, clean=clean, strip_sep=strip)
    for text in TEXTS:
        assert ours(text) == theirs([text])[0].tolist(), text
    assert ours.count("word " * 90) > 16 > ours.count("a dog")


@pytest.mark.parametrize("kind", toy_words.KINDS)
def test_one_that_was_kept_gives_the_same_without_the_library(tmp_path, kind, monkeypatch):
    monkeypatch.setenv("STOPCLI_HOME", str(tmp_path / "home"))
    folder = tmp_path / "words"
    folder.mkdir()
    toy_words.KINDS[kind](folder)
    settings = {"text_cfg": {"context_length": 16, "hf_tokenizer_name": "x/y"}}
    script = f"""
import json, sys
from pathlib import Path
from stopcli.model.towers.tokens import tokenizer_for
tokens = tokenizer_for("x", {settings!r}, Path({str(folder)!r}))
ids = [[*tokens(text), tokens.count(text)] for text in {TEXTS!r}]
print(json.dumps([ids, "torch" in sys.modules, "transformers" in sys.modules]))
"""
    first, again = (
        json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
        for _ in range(2)
    )
    assert first[0] == again[0]
    assert (first[1:], again[1:]) == ([True, True], [False, False])
    (kept,) = (tmp_path / "home" / "tokenizers").iterdir()
    kept.write_text("{")  # damaged: made again
    json_file = next(iter(sorted(folder.iterdir())))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert json.loads(done.stdout)[0] == first[0]
    os.utime(json_file, (1, 1))  # another state, another tokenizer
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert json.loads(done.stdout)[1:] == [True, True]


def test_an_architecture_asks_for_its_own(tmp_path):
    settings = architectures.read_architecture("ViT-B-16-SigLIP2")
    tokens = tokenizer_for("ViT-B-16-SigLIP2", settings, toy_words.siglip2(tmp_path))
    assert tokens.length == 64
    assert tokens("A dog!") == tokens("a dog")
    assert len(tokens("a dog")) == 64


def test_a_damaged_one_is_one_sentence(tmp_path):
    toy_words.siglip2(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="not a tokenizer that can be used"):
        FromFiles(tmp_path, 16, clean="whitespace", strip_sep=False)


def test_no_code_of_others_is_run(tmp_path):
    toy_words.siglip2(tmp_path)
    told = '{"auto_map": {"AutoTokenizer": ["theirs.Theirs", null]}, "tokenizer_class": "Theirs"}'
    (tmp_path / "tokenizer_config.json").write_text(told)
    (tmp_path / "theirs.py").write_text("raise SystemExit('run')")
    try:
        FromFiles(tmp_path, 16, clean="whitespace", strip_sep=False)
    except CheckpointError as error:
        assert "run" not in str(error).split()
    assert "theirs" not in sys.modules


def test_without_the_library_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(architectures, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"ViT-B-16-SigLIP2.*pip install 'stopcli\[multilingual\]'"):
        tokenizer_for("ViT-B-16-SigLIP2", {"text_cfg": {"hf_tokenizer_name": "x/y"}}, tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "bert", "auto_map": {"AutoConfig": "theirs.C"}}, "name code of their own"),
        ({"model_type": "zz", "auto_map": {"AutoConfig": "someone/else--theirs.C"}}, "of the kind 'zz'"),
        (
            {"model_type": "bert", "num_hidden_layers": 100_000_000},
            "num_hidden_layers of its text tower is 1",
        ),
        ({"model_type": "bert", "hidden_size": 1 << 30}, "hidden_size of its text tower is 1"),
        ([], "of the kind None"),
    ],
)
def test_a_text_tower_of_another_library_runs_no_code_and_has_bounds(tmp_path, settings, words):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "theirs.py").write_text("raise SystemExit('run')")
    text = {"hf_model_name": "x/y", "hf_tokenizer_name": "x/y"}
    tower = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}
    with pytest.raises(CheckpointError, match=words):
        build_backbone("mine", {"embed_dim": 8, "vision_cfg": tower, "text_cfg": text}, words=tmp_path)
    assert "theirs" not in sys.modules
