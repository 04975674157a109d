"""Timecode: the numbers that cameras and editors give to pictures.

Source of drop-frame timecode: SMPTE ST 12-1, 5.2.2.
"""

from __future__ import annotations

import re
from fractions import Fraction


def drops(rate: Fraction) -> bool:
    """Say whether timecode at this rate leaves numbers out, so that it stays with the clock."""
    return rate.denominator == 1001 and round(rate) % 30 == 0


def timecode(frame: int, rate: Fraction, *, drop: bool | None = None) -> str:
    """Return a frame's number as hh:mm:ss:ff; with a semicolon where numbers are dropped."""
    base = round(rate)
    drop = drops(rate) if drop is None else drop
    if drop:
        skipped = base // 15  # of every minute but each tenth
        tens, rest = divmod(frame, base * 600 - skipped * 9)
        minutes = max(0, (rest - skipped) // (base * 60 - skipped))
        frame += skipped * (9 * tens + minutes)
    seconds, number = divmod(frame, base)
    seconds %= 24 * 3600  # after midnight it begins again
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{';' if drop else ':'}{number:02d}"


def frame_number(text: str, rate: Fraction) -> int:
    """Return the frame of a timecode, hh:mm:ss:ff, or hh:mm:ss;ff where numbers are dropped."""
    hours, minutes, seconds, number = (int(n) for n in re.split(r"[:;.]", text))
    base, all_minutes = round(rate), 60 * hours + minutes
    frame = (all_minutes * 60 + seconds) * base + number
    if text[8] != ":":
        frame -= base // 15 * (all_minutes - all_minutes // 10)
    return frame
