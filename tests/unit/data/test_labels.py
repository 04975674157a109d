"""Labels: where they come from, and the one rule that makes sentences of them."""

from __future__ import annotations

import pytest

from stopcli.data.labels import default_labels, kinetics400, near_labels, parse_labels, prompts_for
from stopcli.errors import InputError, UsageError
from stopcli.model.config import ModelConfig


def config(**more):
    return ModelConfig("toy", "file:x", None, 4, **more)


@pytest.mark.parametrize(
    ("given", "saved", "sentence"),
    [
        (None, None, "a video of a dog"),
        (None, "footage of {}", "footage of a dog"),
        (None, "{}", "a dog"),
        ("{} at night", "footage of {}", "a dog at night"),
    ],
)
def test_the_template_given_then_the_models_then_the_default(given, saved, sentence):
    assert prompts_for(["a dog"], config(template=saved), given) == [sentence]


def test_a_template_without_a_place_is_refused():
    with pytest.raises(UsageError, match=r"must hold \{\}"):
        prompts_for(["a"], config(), "a video")


def test_labels_of_an_option_or_a_file(tmp_path):
    assert parse_labels("a dog, a cat,") == ["a dog", "a cat"]
    file = tmp_path / "labels.txt"
    file.write_text("\ufeffa dog, running\n# a comment\n\na cat\n", encoding="utf-8")
    assert parse_labels(f"@{file}") == ["a dog, running", "a cat"]
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        parse_labels(f"@{file}")


def test_the_models_own_labels_come_first():
    assert default_labels(config(labels=("red", "green"))) == ["red", "green"]
    assert default_labels(config()) == kinetics400()
    assert len(set(kinetics400())) == 400


def test_a_rare_label_that_reads_like_a_frequent_one_is_noted():
    labels = ["car"] * 8 + ["carr"] * 2 + ["type 3"] * 8 + ["type 4"] + ["dog"] * 8 + ["horse"]
    assert near_labels(labels) == ["label 'carr' (2) reads like 'car' (8); if it is a typo, correct it"]
    assert near_labels(["car"] * 7 + ["carr"] * 2) == []  # as likely as not a label of its own
