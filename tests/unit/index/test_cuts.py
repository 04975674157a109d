"""Windows of an index that end at cuts, beside those that do not."""

from __future__ import annotations

import json
from unicodedata import normalize

import numpy as np
import pytest

from conftest import write_video
from stopcli.errors import DeviceError
from stopcli.hub.registry import resolve
from stopcli.index.engine import SearchEngine
from stopcli.index.store import Index
from stopcli.index.types import SHOTS, Filters
from stopcli.runtime.encoder import Encoder, EncoderOptions

CPU = ("--device", "cpu", "--precision", "fp32")


def update(run, folder, model, *more):
    status, out, err = run(
        "index", "update", folder, "-m", model, "--window", 2, *CPU, "--format", "json", *more
    )
    assert status == 0, err
    return json.loads(out)["data"][0]["embedded"]


def search(run, folder, model, *more):
    shown = ("--min-confidence", "0", "--format", "json", *CPU)
    status, out, err = run("retrieve", "--query", "a bar", folder, "-m", model, *shown, *more)
    assert status == 0, err
    return json.loads(out)["data"]


def test_an_index_goes_on_with_the_windows_that_it_began_with(run, tmp_path, toy):
    """Nothing is embedded again unless one asks for it; windows with cuts and without are kept apart."""
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(3):
        write_video(folder / f"{i}.mp4", frames=50 + 10 * i, fps=10)
    assert update(run, folder, toy, "--cuts", "off") == 3
    assert update(run, folder, toy) == 0
    fixed = search(run, folder, toy, "--window", 2)
    assert update(run, folder, toy, "--cuts", "on") == 3
    assert update(run, folder, toy) == 0
    assert search(run, folder, toy, "--window", 2, "--cuts", "off") == fixed
    _, out, _ = run("index", "info", "--format", "json")
    (info,) = json.loads(out)["data"]
    assert sorted(space["shots"] for space in info["spaces"]) == [False, True]
    _, out, _ = run("index", "info")
    assert "shots of up to 2 s" in out
    assert "windows of 2 s" in out


def test_what_an_earlier_version_cut_in_another_way_is_cut_again(run, tmp_path, toy):
    """A few files had windows without cuts, too: they are no reason to go on without."""
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(3):
        write_video(folder / f"{i}.mp4", frames=50 + 10 * i, fps=10)
    where = ("--index", tmp_path / "index")
    assert update(run, folder, toy, *where) == 3
    assert update(run, folder / "0.mp4", toy, "--cuts", "off", *where) == 1
    with Index(tmp_path / "index") as index, index.database.transaction() as db:
        db.execute("UPDATE spaces SET weights = replace(weights, ?, '-shots1')", (SHOTS,))
    assert update(run, folder, toy, *where) == 3
    _, out, _ = run("index", "info", *where, "--format", "json")
    spaces = json.loads(out)["data"][0]["spaces"]
    assert sorted((space["shots"], space["vectors"] > 1) for space in spaces) == [
        (False, True),
        (True, True),
        (True, True),
    ]


def test_a_new_index_has_windows_that_end_at_cuts(run, tmp_path, toy):
    def scene(i, width, height):
        return np.full((height, width, 3), (20, 90, 160) if i < 45 else (200, 60, 30), np.uint8)

    write_video(tmp_path / "film.mp4", frames=90, fps=15, draw=scene)
    first, second = sorted((h["start"], h["end"]) for h in search(run, tmp_path, toy))
    assert first == (0.0, pytest.approx(3.0, abs=0.15))
    assert second == (first[1], pytest.approx(6.0, abs=0.05))


def test_an_index_goes_on_in_the_precision_that_it_holds(tmp_path, toy):
    """Where the machine at hand would choose another; what it cannot compute in, it says."""
    files = resolve(str(toy))
    first, second = (write_video(tmp_path / f"{i}.mp4", frames=20 + 10 * i, fps=10) for i in range(2))

    def update(video, precision, wanted=None):
        told = []
        options = EncoderOptions("cpu", precision)
        load = lambda: Encoder(files, options)  # noqa: E731
        with SearchEngine(tmp_path / "index", files, load, precision=wanted, say=told.append) as engine:
            engine.update([video], [], 1.0)
            return told, {s.precision: s.rows for s in engine.index.database.spaces()}

    assert update(first, "bf16") == ([], {"bf16": 2})
    told, spaces = update(second, "fp32")
    assert spaces == {"bf16": 5}
    assert told == ["note: the index holds vectors in bf16, and goes on in it; --precision chooses another"]
    assert update(second, "fp32", "fp32")[1] == {"bf16": 5, "fp32": 3}


def test_a_precision_that_the_device_does_not_compute_in_is_tried_once(tmp_path, toy, monkeypatch):
    files, tried, told = resolve(str(toy)), [], []
    films = [
        write_video(tmp_path / f"{i}.mp4", frames=frames, fps=10) for i, frames in enumerate((60, 20, 30))
    ]

    def engine(precision, say=lambda _: None):
        load = lambda: Encoder(files, EncoderOptions("cpu", precision))  # noqa: E731
        return SearchEngine(tmp_path / "index", files, load, say=say)

    with engine("bf16") as first:
        first.update(films[:1], [], 1.0)

    def refuse(self, name):
        tried.append(name)
        raise DeviceError("it has no bf16")

    monkeypatch.setattr(Encoder, "change_precision", refuse)
    with engine("fp32", told.append) as second:
        for film in films[1:]:
            assert second.update([film], [], 1.0).embedded == 1
        assert {s.precision: s.rows for s in second.index.database.spaces()} == {"bf16": 6, "fp32": 5}
    assert tried == ["bf16"]
    assert told[0] == "note: the index holds vectors in bf16; new ones are made in fp32 (it has no bf16)"


def test_a_copy_of_the_example_is_found_and_the_example_itself_is_not(run, toy, clips, tmp_path):
    inside, outside = clips / "a.mp4", tmp_path / "sent.mp4"
    outside.write_bytes(inside.read_bytes())
    linked = tmp_path / "archive"
    linked.symlink_to(clips)
    for example, found in ((outside, True), (inside, False), (linked / "a.mp4", False)):
        how = ("--like", example, clips, "-m", toy, "--whole", "--min-confidence", 0, *CPU)
        hits = json.loads(run("retrieve", *how, "--format", "json")[1])["data"]
        assert [h["score"] == pytest.approx(1, abs=1e-3) for h in hits if h["path"] == str(inside)] == [
            True
        ] * found


def test_a_pattern_finds_names_as_macs_spell_them():
    for form in ("NFC", "NFD"):
        assert Filters(glob="*/Süd/*").take(normalize(form, "v/Süd/a.mp4"), 1.0)
        assert Filters(glob=normalize("NFD", "*/Süd/*")).take(normalize(form, "v/Süd/a.mp4"), 1.0)


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("day/*", "archive/day/a.mp4", True),
        ("*/day/*", "day/a.mp4", True),
        ("a*.mp4", "archive/day/a.mp4", True),
        ("c*.mp4", "archive/day/b.mp4", False),
        ("b*.mp4", "/home/bob/videos/zebra.mp4", False),
        ("t*", "/tmp/videos/a.mp4", False),
        ("*2024*", "archive/2024-05/a.mp4", True),
        ("Köln/*", "archive/Ko\u0308ln/a.mp4", True),
    ],
)
def test_a_pattern_matches_a_path_or_its_end(glob, path, fits):
    assert Filters(glob=glob).fits(path) is fits
