"""The video reader on real clips and on files that lie, break or are no videos at all."""

from __future__ import annotations

import resource
import subprocess
import sys
from itertools import pairwise

import av
import numpy as np
import pytest

from conftest import media_folder
from stopcli.errors import InputError
from stopcli.video.clips import read_frames
from stopcli.video.container import decodes_from_start_only, lenient_tags
from stopcli.video.pixels import Clock
from stopcli.video.reader import open_video
from stopcli.video.timeline import SEQUENTIAL_SHARE

pytestmark = pytest.mark.real
SIZE = 112
MEDIA = media_folder()
ACTIONS = sorted((MEDIA / "actions").iterdir()) if MEDIA else []
ODD = sorted((MEDIA / "odd").iterdir()) if MEDIA else []

NO_VIDEO = {
    "audio_only_aac_frag.mp4", "exo_audio_only_ac3.mp4", "exo_audio_only_opus.mkv", "exo_audio_only_opus.mp4",
    "gen_audio_only.mp4", "gen_audio_with_cover_art.mp4", "small.mp4", "small_mp4-with-audio.mp4",
}  # fmt: skip
UNREADABLE = {
    "exo_drm_clearkey_encrypted.mp4", "exo_subsample_encrypted_noaltref.webm", "gen_truncated_no_moov.mp4",
    "moviepy_zero_byte_result.webm", "mp4parse_chunk_out_of_range.mp4", "mp4parse_invalid_userdata.mp4",
    "small.flv", "small.wmv",
}  # fmt: skip
UNDEFINED = {"mp4parse_no_timescale.mp4": 1.0}  # seconds; then FFmpeg shows memory that nobody wrote to
DAMAGED = {"gen_broken_packets.mp4", "mp4parse_no_timescale.mp4"}  # what fills the holes varies a little
LONG = {"gen_two_hours_1fps.mp4"}  # compared in test_two_hours, without decoding it all
GOOD = [p for p in ODD if p.name not in NO_VIDEO | UNREADABLE | LONG]


def plain_decode(path, size):
    """Every frame that decodes from front to back: times from the first, and pixels by Video's own resize."""
    stamps, frames, base = [], [], 1
    with open_video(path) as video:
        container = av.open(str(path), **lenient_tags())
        stream = container.streams[video._container.stream.index]
        stream.thread_type, stream.thread_count = "SLICE", 2
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except (av.FFmpegError, ValueError):
                continue
            for frame in decoded:
                stamps.append((frame.pts, frame.dts))
                base = frame.time_base
                frames.append(frame)
        pixels = [video._to_pixels(frame, size) for frame in frames]
        container.close()
    shown = [pts if pts is not None else dts for pts, dts in stamps]
    if any(b <= a for a, b in pairwise(shown)):  # AVI files know decoding stamps only
        shown = []
        for _, dts in stamps:  # the last ones have no decoding stamp either
            shown.append(dts if dts is not None else shown[-1] + 1)
    return np.array(shown) * float(base), pixels


@pytest.fixture
def decoded(monkeypatch):
    """A list that grows by each frame that the reader decodes: what its work costs on any machine."""
    frames, read = [], Clock.read
    monkeypatch.setattr(Clock, "read", lambda clock, frame: frames.append(None) or read(clock, frame))
    return frames


def psnr(a, b):
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("path", [*ACTIONS, *GOOD], ids=lambda p: p.name)
def test_frames_are_those_of_a_plain_sequential_decode(path, decoded):
    clip = read_frames(path, 12, SIZE)
    times, frames = plain_decode(path, SIZE)
    # twice where damage shows late, and again over what is left of the file where it ends early
    assert len(decoded) <= 4 * len(frames)
    with open_video(path) as video:
        origin = video._timeline.origin
        only_dts = video._only_dts
    shown = np.maximum(times - (times[0] if only_dts else origin), 0)  # decoders hold pictures back
    step = np.median(np.diff(shown)) if len(shown) > 1 else 1.0
    wanted = clip.start + (np.arange(12) + 0.5) * (clip.end - clip.start) / 12
    for t, at, pixels in zip(wanted, clip.times, clip.pixels, strict=True):
        index = max(0, int(np.searchsorted(shown, t + 1e-6, side="right")) - 1)
        assert abs(at - shown[index]) <= step + 1e-6, f"time {at} for {t}, expected {shown[index]}"
        if t < UNDEFINED.get(path.name, np.inf):
            assert psnr(pixels, frames[index]) > (20 if path.name in DAMAGED else 40)


@pytest.mark.parametrize("path", [p for p in ODD if p.name in NO_VIDEO | UNREADABLE], ids=lambda p: p.name)
def test_what_is_no_video_gives_one_clear_error(path, decoded):
    with pytest.raises(InputError) as caught:
        read_frames(path, 12, SIZE)
    assert decoded == []
    assert caught.value.kind == ("no-video-stream" if path.name in NO_VIDEO else "unreadable-video")
    assert "\n" not in str(caught.value)


def upright(name, size=64):
    return read_frames(MEDIA / "odd" / name, 1, size).pixels[0].astype(int)


def test_rotation_is_applied(media, tmp_path):
    """Against FFmpeg's own reading of the display matrix, through PyAV's filter graph."""
    for name in ("gen_rotate90_landscape.mp4", "decord_video_180.mov", "decord_video_270.mov",
                 "exo_video_1_rotate90.mp4", "moviepy_fire2_rotate180.mp4", "exo_h265_with_metadata_track.mp4"):  # fmt: skip
        with av.open(str(media / "odd" / name)) as container:
            frame = next(container.decode(video=0))
        turns = {
            90: ["transpose=cclock"],
            -90: ["transpose=clock"],
            180: ["hflip", "vflip"],
            -180: ["hflip", "vflip"],
        }
        graph = av.filter.Graph()
        last = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        for step in turns[frame.rotation]:
            kind, _, value = step.partition("=")
            following = graph.add(kind, value or None)
            last.link_to(following)
            last = following
        sink = graph.add("buffersink")
        last.link_to(sink)
        graph.configure()
        graph.push(frame)
        turned = graph.pull()
        with open_video(media / "odd" / name) as video:
            mine = video._to_pixels(frame, 64)
        scale = 64 / min(turned.width, turned.height)
        rgb = turned.reformat(
            width=max(64, round(turned.width * scale)),
            height=max(64, round(turned.height * scale)),
            format="rgb24",
        ).to_ndarray()
        top, left = (rgb.shape[0] - 64) // 2, (rgb.shape[1] - 64) // 2
        assert psnr(mine, rgb[top : top + 64, left : left + 64]) > 25, name


def test_a_mad_rotation_is_ignored(media):
    assert upright("mp4parse_no_timescale.mp4").shape == (64, 64, 3)


def test_non_square_pixels_are_stretched(media):
    """SAR 2:1 on 640x360: shown as 1280x360, of which the middle 360x360 is 180 stored columns."""
    path = media / "odd" / "mediabunny_sar_2x1.mp4"
    with av.open(str(path), **lenient_tags()) as container:
        frame = next(container.decode(video=0))
    middle = frame.to_ndarray(format="rgb24")[:, 230:410]
    expected = av.VideoFrame.from_ndarray(np.ascontiguousarray(middle), format="rgb24").reformat(
        width=64, height=64
    )
    with open_video(path) as video:
        assert psnr(video._to_pixels(frame, 64), expected.to_ndarray()) > 20


def test_old_x264_444_is_read_sequentially(media):
    """Seeking in it gives green frames; a sequential read does not."""
    with open_video(media / "odd" / "imageio_cockatoo_x264_yuv444.mp4") as video:
        assert decodes_from_start_only(video._container)
    pixels = read_frames(media / "odd" / "imageio_cockatoo_x264_yuv444.mp4", 12, 64).pixels.astype(int)
    green = pixels[..., 1] - np.maximum(pixels[..., 0], pixels[..., 2])
    assert (green.mean((1, 2)) < 20).all()


def test_a_file_cut_in_half_is_sampled_over_what_is_left(media):
    clip = read_frames(media / "odd" / "gen_truncated_moov_first.mp4", 12, 64)
    assert 5.3 < clip.end < 5.6  # the header says 11.1 s; 166 of 333 frames are there
    assert len(np.unique(clip.times)) == 12


def test_a_fragmented_file_that_claims_40_hours_is_sampled_over_its_second(media):
    clip = read_frames(media / "odd" / "exo_sample_fragmented.mp4", 12, 64)
    assert clip.end == pytest.approx(1.0, abs=0.05)


def test_two_hours(media, decoded):
    path = media / "odd" / "gen_two_hours_1fps.mp4"
    clip = read_frames(path, 12, 64)
    assert len(decoded) < SEQUENTIAL_SHARE * 7200
    assert clip.end == pytest.approx(7200, abs=1)
    assert clip.times == pytest.approx([300 + 600 * i for i in range(12)], abs=1)
    with open_video(path) as video:
        whole = list(video._sequential([float(t) for t in clip.times[:2] + 1e-3]))
        for (_, frame), pixels in zip(whole, clip.pixels[:2], strict=True):
            assert psnr(video._to_pixels(frame, 64), pixels) > 40


def test_nothing_leaks():
    """Opening good and broken files many times leaves no descriptors and little memory behind."""
    if MEDIA is None:
        pytest.skip("no real clips here")
    code = f"""
import os, resource, sys
from pathlib import Path
from stopcli.errors import InputError
from stopcli.video.clips import read_frames
odd = Path({str(MEDIA / "odd")!r})
names = ["small.webm", "gen_truncated_no_moov.mp4", "small.wmv", "gen_audio_only.mp4", "moviepy_bitmap.mp4"]
def around():
    for name in names:
        try: read_frames(odd / name, 4, 32, threads=1)
        except InputError: pass
for _ in range(20): around()
files, before = len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(200): around()
print(len(os.listdir("/proc/self/fd")) - files, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    if sys.platform != "linux":
        pytest.skip("counts descriptors in /proc")
    files, kilobytes = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(files) == 0
    assert int(kilobytes) < 20_000
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
