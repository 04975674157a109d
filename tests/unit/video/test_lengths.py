"""How long a film is, and when its pictures begin, whatever the container counts."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from stopcli.video.workers.pool import read_facts


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "mov"])
def test_a_film_whose_sound_begins_first_is_as_long_as_its_pictures(tmp_path, suffix):
    """Matroska counts its length from 0, wherever the pictures begin."""
    film = tmp_path / f"film.{suffix}"
    codecs = ("libvpx-vp9", "libopus") if suffix == "webm" else ("libx264", "aac")
    with av.open(str(film), "w") as out:
        picture, sound = out.add_stream(codecs[0], rate=25), out.add_stream(codecs[1], rate=48000)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        for i in range(400):  # eight seconds of sound
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960 * 2), np.float32), "flt", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 960 * i, Fraction(1, 48000)
            out.mux(sound.encode(frame))
        for i in range(125):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), i, np.uint8), "rgb24")
            frame.pts, frame.time_base = 75 + i, Fraction(1, 25)
            out.mux(picture.encode(frame))
        out.mux(picture.encode())
        out.mux(sound.encode())
    facts = read_facts(film)
    assert (facts.duration, facts.offset) == pytest.approx((5.0, 3.0), abs=0.1)
