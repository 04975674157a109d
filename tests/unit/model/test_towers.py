"""CLIP without open_clip is open_clip's CLIP, to rounding; what is not that kind is left to it."""

from __future__ import annotations

import subprocess
import sys
import threading

import open_clip
import pytest
import torch

from stopcli.model.towers.architectures import is_standard, read_architecture
from stopcli.model.towers.build import no_parameters
from stopcli.model.towers.standard import StandardCLIP

TOY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 48, "patch_size": 16, "width": 48, "layers": 3, "head_width": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
TEXTS = ["a", "a man cooking in a kitchen", "word " * 60, "a dog"]


@pytest.mark.parametrize("more", [{}, {"quick_gelu": True}])
@pytest.mark.parametrize("ratio", [None, 3.0])
def test_embeddings_are_those_of_open_clip(more, ratio):
    settings = TOY | more | {"vision_cfg": TOY["vision_cfg"] | ({"mlp_ratio": ratio} if ratio else {})}
    torch.manual_seed(0)
    theirs = open_clip.CLIP(**settings).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = StandardCLIP(settings).eval()
    ours.load_state_dict(theirs.state_dict())
    tokens = open_clip.SimpleTokenizer(context_length=20)(TEXTS)
    images = torch.randn(5, 3, 48, 48)
    with torch.inference_mode():
        for a, b in (
            (ours.encode_image(images), theirs.encode_image(images)),
            (ours.encode_text(tokens), theirs.encode_text(tokens)),
            (ours.encode_text(tokens[:1]), theirs.encode_text(tokens[:1])),
        ):
            assert (a - b).abs().max() < 1e-5 * b.abs().max()


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16-quickgelu", "ViT-L-14", "ViT-L-14-336", "ViT-H-14"])
def test_the_parameters_have_open_clips_names_and_shapes(name):
    settings = read_architecture(name)
    assert settings == open_clip.get_model_config(name)
    assert is_standard(settings)
    with torch.device("meta"):
        ours, theirs = StandardCLIP(settings), open_clip.CLIP(**settings)
    shapes = [{n: tuple(t.shape) for n, t in m.state_dict().items()} for m in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "name",
    [
        "RN50",
        "ViT-B-16-SigLIP",
        "coca_ViT-B-32",
        "EVA02-B-16",
        "roberta-ViT-B-32",
        "PE-Core-B-16",
        "ViTamin-B",
    ],
)
def test_other_kinds_are_left_to_open_clip(name):
    assert not is_standard(read_architecture(name))


def test_every_architecture_is_either_known_whole_or_left_alone():
    """No setting of open_clip's is passed over in silence."""
    known = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
    for name in open_clip.list_models():
        settings = read_architecture(name)
        if is_standard(settings):
            assert set(settings) <= known
            assert not any(
                "timm" in key or "hf_" in key for key in (*settings["vision_cfg"], *settings["text_cfg"])
            )


def test_a_model_of_the_original_kind_is_run_without_open_clip(toy, clips):
    code = (
        "import sys; from stopcli.cli.app import main\n"
        "status = main(sys.argv[1:])\n"
        "print(status, [m for m in ('open_clip', 'timm', 'torchvision') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, "classify", clips / "a.mp4", "-m", toy, "--labels", "a,b", "-q"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_threads_that_build_at_once_do_not_take_each_others_weights():
    """A page answers several requests at once, and each may load a model."""
    register = torch.nn.Module.register_parameter
    inside, built = threading.Barrier(2), {}

    def empty(name):
        with no_parameters():
            inside.wait(10)
            built[name] = torch.nn.Linear(2, 2)
            inside.wait(10)
        inside.wait(10)
        built[f"{name}, after"] = torch.nn.Linear(2, 2)

    threads = [threading.Thread(target=empty, args=(name,)) for name in ("one", "other")]
    with no_parameters():
        meanwhile = threading.Thread(target=lambda: built.update(real=torch.nn.Linear(2, 2)))
        meanwhile.start()
        meanwhile.join()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {name: layer.weight.is_meta for name, layer in built.items()}
    assert found == {
        "real": False, "one": True, "other": True, "one, after": False, "other, after": False,
    }  # fmt: skip
    assert torch.nn.Module.register_parameter is register
