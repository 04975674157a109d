"""Batching, order, failures, precision, memory: what the runtime promises."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from conftest import TOY_CONFIG, write_video
from stopcli.errors import DeviceError, UnreadableVideo, UsageError
from stopcli.hub.registry import resolve
from stopcli.model.config import StopConfig
from stopcli.results import EncodedClip, Failure
from stopcli.runtime.device import agreement, choose_precision, default_batch
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.runtime.profile import count_flops
from stopcli.video.clips import read_frames
from stopcli.video.discovery import find_videos
from stopcli.video.workers.prefetch import AHEAD, prefetch

CPU = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def encoder(toy):
    return Encoder(resolve(str(toy)), EncoderOptions(**CPU, batch_size=3))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for i in range(7):
        write_video(folder / f"{i}.mp4", frames=20 + 3 * i)
    (folder / "3x.mp4").write_bytes(b"broken" * 50)
    return folder


def test_order_is_kept_and_a_failure_stops_nothing(encoder, many):
    items = list(encoder.encode_videos(list(find_videos([many]))))
    assert [i.path.rsplit("/", 1)[1] for i in items] == [
        "0.mp4",
        "1.mp4",
        "2.mp4",
        "3.mp4",
        "3x.mp4",
        "4.mp4",
        "5.mp4",
        "6.mp4",
    ]
    assert [isinstance(i, Failure) for i in items] == [False] * 4 + [True] + [False] * 3
    assert items[4].error == "unreadable-video"


def test_batches_do_not_change_embeddings(encoder, toy, many):
    alone = Encoder(resolve(str(toy)), EncoderOptions(**CPU, batch_size=1))
    paths = [p for p in find_videos([many]) if p.name != "3x.mp4"]
    one = np.stack([i.vector for i in alone.encode_videos(paths)])
    three = np.stack([i.vector for i in encoder.encode_videos(paths)])
    assert np.abs(one - three).max() < 1e-5


def test_windows_come_in_order_with_their_spans(encoder, many):
    items = list(encoder.encode_videos([many / "6.mp4", many / "0.mp4"], window=0.5))
    assert [(i.path[-5:], round(i.start, 2), round(i.end, 2)) for i in items] == [
        ("6.mp4", 0, 0.5), ("6.mp4", 0.5, 1), ("6.mp4", 1, 1.27), ("0.mp4", 0, 0.67),
    ]  # fmt: skip


def test_plain_clip_equals_open_clip_on_the_same_frames(plain, many):
    encoder = Encoder(resolve(str(plain)), EncoderOptions(**CPU))
    (item,) = encoder.encode_videos([many / "1.mp4"])
    clip = open_clip.CLIP(**TOY_CONFIG).eval()
    clip.load_state_dict(load_file(plain / "backbone.safetensors"))
    frames = torch.from_numpy(read_frames(many / "1.mp4", 4, 64).pixels).permute(0, 3, 1, 2).float() / 255
    told = encoder.model.backbone.preprocess
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (told.mean, told.std))
    with torch.no_grad():
        image = clip.encode_image((frames - mean) / std, normalize=True).mean(0)
        assert np.abs(item.vector - torch.nn.functional.normalize(image, dim=-1).numpy()).max() < 1e-5
        tokens = open_clip.SimpleTokenizer(context_length=24)(["a dog"])
        assert (
            np.abs(encoder.encode_texts(["a dog"]) - clip.encode_text(tokens, normalize=True).numpy()).max()
            < 1e-5
        )


def test_texts_are_computed_once(encoder, monkeypatch):
    first = encoder.encode_texts(["a dog", "a cat", "a dog"])
    assert (first[0] == first[2]).all()
    monkeypatch.setattr(encoder.model, "encode_text", None)
    assert (encoder.encode_texts(["a cat"])[0] == first[1]).all()
    with pytest.raises(UsageError, match="empty"):
        encoder.encode_texts(["a dog", "  "])


def test_memory_that_runs_out_halves_the_batch(toy, monkeypatch):
    encoder = Encoder(resolve(str(toy)), EncoderOptions(**CPU, batch_size=8))
    whole, sizes = encoder._encode, []

    def small(pixels):
        sizes.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("no memory left")
        return whole(pixels)

    pixels = np.random.default_rng(0).integers(0, 255, (9, 4, 64, 64, 3), dtype=np.uint8)
    expected = encoder.encode_pixels(pixels)
    encoder._encode, encoder.batch_size = small, 8
    assert np.abs(encoder.encode_pixels(pixels) - expected).max() < 1e-5
    assert sizes == [8, 4, 2, 2, 2, 2, 1]

    def never(_):
        raise torch.OutOfMemoryError("no memory left")

    encoder._encode = never
    with pytest.raises(DeviceError, match="one clip of 4 frames"):
        encoder.encode_pixels(pixels)


def test_bf16_is_near_fp32(toy):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 4, 64, 64, 3), dtype=np.uint8)
    exact = Encoder(resolve(str(toy)), EncoderOptions(**CPU)).encode_pixels(pixels)
    near = Encoder(resolve(str(toy)), EncoderOptions(device="cpu", precision="bf16")).encode_pixels(pixels)
    assert near.dtype == np.float32
    assert ((exact * near).sum(-1) > 0.97).all()


def test_precision_follows_the_processor(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert choose_precision(cpu, "auto") == ("bf16", "this CPU has AVX512-BF16")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert choose_precision(cpu, "auto")[0] == "fp32"
    assert choose_precision(cpu, "bf16") == ("bf16", "asked for")


def test_a_device_agrees_with_the_cpu(encoder):
    assert agreement(encoder.model, 4, torch.device("cpu")) == pytest.approx(1, abs=1e-6)


def test_a_model_that_was_compared_can_be_trained(toy):
    model = Encoder(resolve(str(toy)), EncoderOptions(device="cpu", precision="bf16")).model
    agreement(model, 4, torch.device("cpu"))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.is_inference() for p in model.parameters())
    model.prompts.requires_grad_(True)


def test_a_gpu_without_bf16_trains_in_fp32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    cuda = torch.device("cuda")
    assert choose_precision(cuda, "auto")[0] == "fp16"
    assert choose_precision(cuda, "auto", trainable=True)[0] == "fp32"
    assert choose_precision(cuda, "fp16", trainable=True) == ("fp16", "asked for")


def test_an_mps_that_computes_wrong_is_not_chosen(toy, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("stopcli.runtime.device.agreement", lambda model, frames, device: 0.7)
    encoder = Encoder(resolve(str(toy)), EncoderOptions())
    assert encoder.device.type == "cpu"
    assert "disagrees" in encoder.device_reason


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(toy, name):
    with pytest.raises(DeviceError):
        Encoder(resolve(str(toy)), EncoderOptions(device=name))


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(toy):
    import os

    if not torch.cuda.is_available():
        if os.environ.get("STOPCLI_REQUIRE_GPU") == "1":
            pytest.fail("STOPCLI_REQUIRE_GPU=1, but there is no CUDA device")
        pytest.skip("no CUDA device")
    encoder = Encoder(resolve(str(toy)), EncoderOptions(device="cuda"))
    assert agreement(encoder.model, 4, encoder.device) > 0.999


def test_prefetch_keeps_order_and_bounds():
    open_jobs, most, lock = set(), [0], threading.Lock()

    def read(job):
        with lock:
            open_jobs.add(job)
            most[0] = max(most[0], len(open_jobs))
        yield from (job * 10 + i for i in range(3))
        with lock:
            open_jobs.discard(job)

    items = [item for _, item in prefetch(read, range(20), workers=3)]
    assert items == [j * 10 + i for j in range(20) for i in range(3)]
    assert most[0] <= 3


def test_prefetch_works_ahead_of_a_slow_reader_but_not_far():
    """Two jobs are read ahead until their queues are full: each then waits with one item in its hands."""
    decoded, full = [], threading.Barrier(3)

    def read(job):
        for i in range(100):
            decoded.append((job, i))
            if i == AHEAD:  # one more than a queue holds
                full.wait()
            yield i

    items = prefetch(read, [0, 1, 2], workers=2)
    first = threading.Thread(target=full.wait)  # nobody takes an item until both have come so far
    first.start()
    next(items)
    first.join()
    assert len(decoded) <= 2 * (AHEAD + 2)
    items.close()


def test_prefetch_yields_faults_of_inputs_and_raises_others():
    def read(job):
        yield job
        if job == 1:
            raise UnreadableVideo("broken")
        if job == 3:
            raise ZeroDivisionError

    items = prefetch(read, [0, 1, 2], workers=2)
    assert [str(i) for _, i in items] == ["0", "1", "broken", "2"]
    with pytest.raises(ZeroDivisionError):
        list(prefetch(read, [3], workers=2))


def test_results_say_how_they_were_made(encoder):
    told = encoder.describe()
    assert told["precision"] == "fp32"
    assert told["frames"] == 4
    assert len(told["weights"]) == 64
    assert isinstance(next(iter(told)), str)
    assert EncodedClip("a", None, None, np.zeros(2, np.float32)).path == "a"


def test_operations_are_counted_whole(plain):
    """Plain CLIP's matrix products, by hand: attention and its projections must not be missing."""
    encoder = Encoder(resolve(str(plain)), EncoderOptions("cpu", "fp32"))
    told = TOY_CONFIG["vision_cfg"]
    size, patch, d = told["image_size"], told["patch_size"], told["width"]
    patches = (size // patch) ** 2
    s = patches + 1
    block = 2 * s * d * (3 * d + d + 8 * d) + 4 * s * s * d
    last = 2 * s * d * 2 * d + 2 * d * (d + d + 8 * d) + 4 * s * d  # of the class token alone
    blocks = (told["layers"] - 1) * block + last
    frame = 2 * patches * d * 3 * patch**2 + blocks + 2 * d * TOY_CONFIG["embed_dim"]
    clips = np.zeros((2, 4, size, size, 3), np.uint8)
    assert count_flops(encoder, clips) == 8 * frame


@pytest.mark.parametrize(
    ("grid", "config", "device", "trainable", "clips"),
    [
        ((7, 7), StopConfig(), "cuda", False, 128),  # ViT-B/32
        ((16, 16), StopConfig(), "cuda", False, 24),  # ViT-L/14
        ((7, 7), None, "cuda", False, 32),
        ((7, 7), StopConfig(), "cuda", True, 32),
        ((7, 7), StopConfig(), "cpu", False, 4),
    ],
)
def test_a_gpu_computes_more_clips_at_once_where_there_are_prompts(grid, config, device, trainable, clips):
    model = SimpleNamespace(config=config, tower=SimpleNamespace(grid=grid, width=768, depth=12))
    assert default_batch(model, torch.device(device), 12, trainable) == clips


def test_a_failure_is_told_at_once_where_no_clip_stands_before_it(encoder, many, monkeypatch):
    def prefetch(_, paths):
        for path in paths:
            yield path, UnreadableVideo(f"{path}: no video")
            assert path in told
        raise AssertionError("read to the end")

    monkeypatch.setattr("stopcli.runtime.encoder.prefetch", prefetch)
    told = set()
    with pytest.raises(AssertionError, match="read to the end"):
        for item in encoder.encode_videos(["a.mp4", "b.mp4"]):
            told.add(item.path)
