"""Timecode: numbers that are left out, midnight, and what OpenTimelineIO makes of the same frames."""

from __future__ import annotations

from fractions import Fraction

import opentimelineio as otio
import pytest

from stopcli.video.cut.timecode import frame_number, timecode

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("frame", "rate", "text"),
    [
        (1799, NTSC, "00:00:59;29"), (1800, NTSC, "00:01:00;02"), (17982, NTSC, "00:10:00;00"),
        (107892, NTSC, "01:00:00;00"), (3599, Fraction(60000, 1001), "00:00:59;59"),
        (3600, Fraction(60000, 1001), "00:01:00;04"), (1800, Fraction(30), "00:01:00:00"),
        (1439, Fraction(24000, 1001), "00:00:59:23"), (25 * 86_399, Fraction(25), "23:59:59:00"),
    ],
)  # fmt: skip
def test_timecode_drops_numbers_as_smpte_says(frame, rate, text):
    assert timecode(frame, rate) == text
    assert frame_number(text, rate) == frame


def test_timecode_agrees_with_otio_over_a_day():
    for rate in (NTSC, Fraction(60000, 1001), Fraction(25), Fraction(24000, 1001)):
        for frame in range(0, round(86000 * rate), 99991):
            theirs = otio.opentime.to_timecode(otio.opentime.RationalTime(frame, float(rate)), float(rate))
            assert timecode(frame, rate) == theirs
            assert frame_number(theirs, rate) == frame


def test_timecode_begins_again_at_midnight():
    assert timecode(25 * 86_400 + 30, Fraction(25)) == "00:00:01:05"
