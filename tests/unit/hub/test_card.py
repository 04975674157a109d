"""Cards say what the Hub reads and what people read, and nothing of the machine."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import ModelCard

from conftest import write_model
from stopcli.errors import CheckpointError
from stopcli.hub.card import card_data, model_card, without_paths
from stopcli.hub.publish import publishable
from stopcli.model.config import StopConfig

TRAINING = {
    "base": "../clients/acme/model",
    "origin": "hf:org/repo",
    "data": {"source": "/home/evelyn/My Videos/clips.csv", "train clips": 80, "note": None},
    "settings": {"epochs": 5, "init": "C:\\Users\\evelyn\\model"},
    "provenance": {"torch": "2.6", "log": "written to /var/tmp/evelyn/run.log, twice"},
    "command": "/opt/evelyn/bin/stop finetune '/home/evelyn/My Videos/clips.csv' --model hf:org/repo -o=/home/evelyn/out",
}
CONFIG = {
    "backbone": {"architecture": "ViT-B-32", "weights": "hf:timm/vit@main"},
    "labels": ["a dog", "a|cat", "left/right", "<script>alert(1)</script>"],
    "metrics": {
        "validation": {"top-1": 93.126, "top-5": 100},
        "validation, plain CLIP": {"top-1": 50.0},
        "test": {"top-1": 91.0},
    },
    "training": TRAINING,
}


def secrets(text: str) -> list[str]:
    return [
        word for word in ("evelyn", "acme", "My Videos", "/opt", "/var", "/home", "Users") if word in text
    ]


def test_the_scores_stand_where_the_hub_looks_for_them():
    card = ModelCard(model_card("my-model", CONFIG, "Apache-2.0"))
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "video-classification"
    assert card.data.base_model == "timm/vit"
    assert card.data.model_name == "my-model"
    scores = {
        (r.dataset_split, r.metric_name): (r.metric_type, r.metric_value) for r in card.data.eval_results
    }
    assert scores == {
        ("validation", "top-1"): ("accuracy", 93.13),
        ("validation", "top-5"): ("top-5", 100.0),
        ("test", "top-1"): ("accuracy", 91.0),
    }
    assert {r.dataset_name for r in card.data.eval_results} == {"clips.csv"}


def test_a_card_speaks_of_prompts_only_where_there_are_some():
    for config, said in (
        ({"stop": {"regions": 0.25}}, "STOP prompts (arXiv 2503.15973) on a frozen ViT-B-32, trained with"),
        (
            {"stop": None, "head": {"scale": 1}},
            "labels learned from clips by a frozen ViT-B-32, trained with",
        ),
        ({"stop": None}, "a frozen ViT-B-32, packed with stopcli"),
    ):
        card = ModelCard(model_card("my-model", CONFIG | config))
        assert said in card.text
        assert ("prompt-learning" in card.data.tags) == ("stop" in card.data.tags) == bool(config["stop"])


def test_people_read_the_same_scores_in_a_table():
    text = model_card("my-model", CONFIG)
    assert "| | top-1 | top-5 |\n|---|---|---|\n| validation | 93.13 | 100 |\n" in text
    assert "| validation, plain CLIP | 50 |  |\n| test | 91 |  |\n" in text
    assert "Tells 4 classes apart" in text
    assert "| train clips | 80 |" in text
    assert "note" not in text


def test_nothing_hostile_leaves_its_place():
    hostile = CONFIG | {"training": TRAINING | {"settings": {"seed": "1 |\n\n# evil"}}}
    card = ModelCard(model_card("<script>x</script>\n# evil", hostile, "a: b\n- evil\n---\n"))
    assert card.data.license == "a: b\n- evil\n---\n"
    assert "<script>" not in card.text
    assert "\n# evil" not in card.text
    assert "a\\|cat" in card.text
    assert card.data.tags[0] == "video"


def test_a_model_that_nobody_measured_says_so():
    text = model_card("search", {"backbone": {"architecture": "toy", "weights": "openai"}})
    card = ModelCard(text)
    assert "nothing was measured" in text
    assert card.data.eval_results is None
    assert "text-to-video-retrieval" in card.data.tags
    assert card_data("x", CONFIG).license == "other"


def test_paths_are_shortened_to_their_names_and_words_are_kept():
    assert secrets(model_card("my-model", CONFIG)) == []
    shown = without_paths(TRAINING)
    assert secrets(json.dumps(shown)) == []
    assert shown["command"] == "stop finetune clips.csv --model hf:org/repo -o=out"
    assert shown["provenance"]["log"] == "written to run.log, twice"
    assert shown["settings"] == {"epochs": 5, "init": "model"}
    assert shown["origin"] == "hf:org/repo"
    assert without_paths("stop finetune 'half", "command") == "stop finetune ''\"'\"'half'"
    for kept in ("1/2 of the clips", "https://example.org/a/b", "and/or", "a video of {}", 3, None):
        assert without_paths(kept) == kept


@pytest.fixture
def folder(tmp_path):
    folder = write_model(
        tmp_path / "mine", stop=StopConfig(regions=0.25, eta=2, hidden=16), labels=("a/b", "a cat")
    )
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"training": TRAINING, "metrics": {}}))
    return folder


def test_the_published_settings_name_no_folder_and_the_local_ones_stay(folder):
    before = (folder / "config.json").read_bytes()
    files = publishable(folder, None)
    published = json.loads(files["config.json"])
    assert secrets(files["config.json"].decode()) == []
    assert secrets(files["README.md"].read_text()) == []
    assert published["labels"] == ["a/b", "a cat"]
    assert published["training"]["data"]["train clips"] == 80
    assert (folder / "config.json").read_bytes() == before
    assert files["model.safetensors"] == folder / "model.safetensors"


def test_a_card_that_a_person_wrote_keeps_its_text_and_its_own_fields(folder):
    text = "---\nlanguage: en\nlicense: mit\ntags:\n- owls\n---\n\n# My owls\n\n---\n\nRecorded in spring.\n"
    (folder / "README.md").write_text(text)
    publishable(folder, "apache-2.0")
    card = ModelCard((folder / "README.md").read_text())
    assert (card.data.license, card.data.language, card.data.tags) == ("apache-2.0", "en", ["owls"])
    assert card.data.library_name == "stopcli"
    assert card.text == "\n# My owls\n\n---\n\nRecorded in spring.\n"
    (folder / "README.md").write_text("# No front matter\n")
    publishable(folder, "mit")
    card = ModelCard((folder / "README.md").read_text())
    assert (card.data.license, card.text) == ("mit", "# No front matter\n")


@pytest.mark.parametrize("name", ["metrics.jsonl", "README.md", "tokenizer/tokenizer.json"])
def test_what_a_link_leads_to_elsewhere_is_not_published(folder, tmp_path, name):
    (tmp_path / "key").write_text("secret")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(tmp_path / "key")
    with pytest.raises(CheckpointError, match=f"{name}: leads out of the folder"):
        publishable(folder, "mit")
    assert (folder / name).is_symlink()
    (folder / name).unlink()
    (folder / "kept").write_text("mine")
    (folder / "metrics.jsonl").symlink_to("kept")
    assert "metrics.jsonl" in publishable(folder, "mit")


def test_a_broken_front_matter_is_one_clear_error(folder):
    (folder / "README.md").write_text("---\nlicense: [\n---\n# Mine\n")
    with pytest.raises(
        CheckpointError, match=r"README\.md: its front matter is no YAML .*; fix it or delete"
    ):
        publishable(folder, "mit")
    (folder / "LATIN.md").write_bytes("# Français\n".encode("latin-1"))
    (folder / "LATIN.md").replace(folder / "README.md")
    with pytest.raises(CheckpointError, match=r"README\.md: is no text in UTF-8; save it as such"):
        publishable(folder, "mit")
    (folder / "README.md").write_text("---\nlicense: [\n---\n# Mine\n")
    assert (folder / "README.md").read_text().endswith("# Mine\n")
