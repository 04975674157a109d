"""Frames reach a tower as open_clip's own preprocessing would hand them to it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from conftest import write_video
from stopcli.errors import CheckpointError
from stopcli.hub.named import ENTRIES, MINI
from stopcli.hub.registry import resolve
from stopcli.model.preprocess import preprocess_of
from stopcli.model.towers.architectures import read_architecture
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.video.pixels import Framing
from stopcli.video.workers.pool import read_frames

TAGS = (  # one of each kind of preprocessing that open_clip's list has
    ("ViT-B-32", "openai"),
    ("ViT-B-16-SigLIP2", "webli"),
    ("PE-Core-B-16", "meta"),
    ("ViT-L-14-CLIPA", "datacomp1b"),
    ("ViT-H-14-378-quickgelu", "dfn5b"),
    ("MobileCLIP2-S0", "dfndr2b"),
    ("ViTamin-S", "datacomp1b"),
    ("EVA02-B-16", "merged2b_s8b_b131k"),
)


def told(architecture, tag):
    return open_clip.get_pretrained_cfg(architecture, tag)


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """A clip of 16:9 whose left and right ends hold what its middle does not."""
    x, y = np.meshgrid(np.arange(320), np.arange(180))
    frame = np.stack([x * 255 / 319, y * 255 / 179, 128 + 90 * np.sin(x / 9) * np.cos(y / 13)], -1)
    frame[40:140, :30], frame[60:120, -50:-10] = (255, 30, 30), (20, 20, 250)
    return write_video(
        tmp_path_factory.mktemp("wide") / "wide.mp4",
        frames=3,
        size=(320, 180),
        pix_fmt="yuv444p",
        options={"crf": "1"},
        draw=lambda *_: frame.astype(np.uint8),
    )


@pytest.mark.parametrize(("architecture", "tag"), TAGS)
def test_frames_and_embeddings_are_those_of_open_clip(architecture, tag, wide, plain, tmp_path):
    wanted = preprocess_of(architecture, read_architecture(architecture), told(architecture, tag))
    known = {k: v for k, v in told(architecture, tag).items() if k in PreprocessCfg.__dataclass_fields__}
    with av.open(str(wide)) as container:
        picture = next(container.decode(video=0)).to_image()
    files = resolve(str(plain))  # a toy of 64 pixels a side, with this tower's way of looking
    encoder = Encoder(
        replace(files, preprocess=replace(wanted, size=64)), EncoderOptions(device="cpu", precision="fp32")
    )
    frames = read_frames(wide, 1, encoder.framing).pixels[None]
    ours = encoder._preprocess(frames)[0, 0]
    theirs = image_transform_v2(PreprocessCfg(**known | {"size": 64}), is_train=False)(picture)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().mean() < 0.05
    embedded = [encoder.model.encode_video(x[None, None]) for x in (ours, theirs)]
    assert torch.cosine_similarity(*embedded) > 0.995


def test_all_kinds_are_among_them():
    kinds = set()
    for architecture, tag in open_clip.list_pretrained():
        wanted = preprocess_of(architecture, read_architecture(architecture), told(architecture, tag))
        kinds.add((wanted.fit, wanted.interpolation))
    tested = (preprocess_of(a, read_architecture(a), told(a, t)) for a, t in TAGS)
    assert kinds == {(w.fit, w.interpolation) for w in tested}


def test_black_bars_keep_all_of_a_frame(wide):
    pixels = read_frames(wide, 1, Framing(64, "pad")).pixels[0].astype(int)
    rows = 64 * 180 // 320
    assert pixels[: (64 - rows) // 2].max() < 3
    assert pixels[-((64 - rows) // 2) :].max() < 3
    middle = pixels[(64 - rows) // 2 :][:rows]
    assert np.abs(middle[18, 2] - (255, 30, 30)).max() < 40  # the left end
    assert np.abs(middle[18, 58] - (20, 20, 250)).max() < 40  # the right


def test_named_models_want_what_open_clip_says():
    repositories = {}
    for architecture, tag in open_clip.list_pretrained():
        if repository := told(architecture, tag).get("hf_hub", "").rstrip("/"):
            repositories.setdefault(f"hf:{repository}", []).append((architecture, tag))
    for name, entry in ENTRIES.items():
        if name != MINI:
            settings = read_architecture(entry.architecture)
            (tag,) = {t for a, t in repositories[entry.weights] if a == entry.architecture}
            expected = preprocess_of(name, settings, told(entry.architecture, tag))
            assert preprocess_of(name, settings, entry.preprocess) == expected, name
            assert bool(told(entry.architecture, tag).get("quick_gelu")) == bool(settings.get("quick_gelu"))


def test_a_model_folder_says_how_it_wants_its_frames(plain, tmp_path, wide):
    folder = shutil.copytree(plain, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["backbone"]["preprocess"] = {"fit": "squash", "mean": [0.5, 0.5, 0.5]}
    (folder / "config.json").write_text(json.dumps(config))
    files = resolve(str(folder))
    assert (files.preprocess.fit, files.preprocess.mean) == ("squash", (0.5, 0.5, 0.5))
    keys = {resolve(str(plain)).video_key(1), files.video_key(1), files.fitted("pad").video_key(1)}
    assert len(keys | {files.video_key(2)}) == 4  # vectors of another way are others
    assert files.text_key() == resolve(str(plain)).text_key()


@pytest.mark.parametrize("wish", [{"resize_mode": "random"}, {"interpolation": "nearest"}])
def test_a_way_that_is_not_known_is_refused(wish):
    with pytest.raises(CheckpointError, match=r"wants frames resized by '(random|nearest)'"):
        preprocess_of("x", {"vision_cfg": {"image_size": 224}}, wish)
