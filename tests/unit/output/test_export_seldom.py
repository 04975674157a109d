"""Exports of what is seldom: names that meet, that are no text, scores below zero, a camera's own count."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from conftest import write_video
from stopcli.data.table import read_dataset
from stopcli.output.export import export
from stopcli.results import Hit


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for name, rate in (("pal.mp4", Fraction(25)), ("ntsc.mp4", Fraction(30000, 1001))):
        write_video(folder / name, frames=round(8 * rate), fps=rate, size=(64, 48))
    return folder


def hit(path, start, end, query="a goal"):
    return Hit(query, 1, str(path), start, end, 0.4)


def written(path, records):
    (item,) = export(path, records)
    assert item.path == str(path)
    return path


def test_a_name_that_is_taken_is_not_made_again(films, tmp_path):
    (tmp_path / "other").mkdir()
    twin = shutil.copy(films / "pal.mp4", tmp_path / "other" / "pal.mp4")
    second = shutil.copy(films / "pal.mp4", tmp_path / "other" / "PAL-2.mp4")
    hits = [hit(films / "pal.mp4", 0, 2), hit(twin, 2, 4), hit(second, 4, 6)]
    made = [Path(w.path) for w in export(tmp_path / "hits.srt", hits, force=True)]
    assert [p.name for p in made] == ["hits_pal.srt", "hits_pal-2.srt", "hits_PAL-2-2.srt"]
    assert [f"00:00:0{t},000 -->" in p.read_text() for p, t in zip(made, (0, 2, 4), strict=True)] == [
        True
    ] * 3


def test_a_score_below_zero_is_a_number(films, tmp_path):
    low = replace(hit(films / "pal.mp4", 0, 2, query="-1+2"), score=-0.01)
    (row,) = csv.DictReader(written(tmp_path / "hits.csv", [low]).read_text().splitlines())
    assert (row["label"], row["score"]) == ("'-1+2", "-0.0100")  # a text that is no formula, a number


@pytest.mark.parametrize("name", ["@home.mp4", "PM\u202f1.mp4", "-x.mp4", "plain.mp4"])
def test_a_csv_that_was_exported_is_read_back_as_it_was(films, tmp_path, name):
    film = tmp_path / name
    shutil.copy(films / "pal.mp4", film)
    labels = ("+1 point", "@home", "'quoted'", "=2")
    hits = [hit(film, 2 * i, 2 * i + 2, query=label) for i, label in enumerate(labels)]
    data = read_dataset(written(tmp_path / "hits.csv", hits))
    data.require_sound("never said")
    assert [row.text for row in data.rows] == list(labels)
    assert {row.path.resolve() for row in data.rows} == {film.resolve()}


def test_an_edl_counts_as_the_camera_did(films, tmp_path):
    """At 29.97 pictures a second a camera may count without dropping numbers, where a timeline drops them."""
    film = tmp_path / "ndf.mov"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        films / "ntsc.mp4",
        "-c",
        "copy",
        "-timecode",
        "01:00:00:00",
        film,
    ]
    subprocess.run(list(map(str, command)), check=True)
    text = written(tmp_path / "hits.edl", [hit(film, 2, 4)]).read_text()
    assert "C        01:00:02:00 01:00:04:00 01:00:00;00 01:00:02;00" in text


def test_a_name_that_is_no_text_has_an_eaf(films, tmp_path):
    film = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(films / "pal.mp4", film)
    text = written(tmp_path / "hits.eaf", [hit(film, 0, 2)]).read_text()
    assert 'RELATIVE_MEDIA_URL="./caf%E9.mp4"' in text
