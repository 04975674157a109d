"""What is found leaves the tool: clips and other programs' files, from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_video
from stopcli.data.table import read_dataset
from stopcli.video.workers.pool import read_facts


@pytest.fixture
def place(tmp_path, monkeypatch, toy):
    """A folder with two videos and a model, to work in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").symlink_to(toy)
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "a.mp4", frames=120)
    write_video(tmp_path / "films" / "b.mkv", frames=90)
    return tmp_path


def search(*more):
    return (
        "retrieve",
        "a bar",
        "films",
        "-m",
        "toy",
        "--window",
        "1",
        "-k",
        "3",
        "--min-confidence",
        "0",
        *more,
    )


def test_a_sentence_gives_clips(run, place):
    status, out, err = run(*search("--save-clips", "clips", "--pad", "0.25", "--format", "json"))
    assert status == 0, err
    hits = json.loads(out)["data"]
    assert sorted(hit["clip"] for hit in hits) == sorted(
        f"clips/{p.name}" for p in (place / "clips").iterdir()
    )
    assert all("a-bar-0" in hit["clip"] for hit in hits)
    for hit in hits:
        lead = 0.5 if hit["clip"].endswith(".mkv") else 0.0  # it begins with a key frame
        wanted = hit["end"] - hit["start"]
        assert wanted - 0.1 < read_facts(hit["clip"]).duration < wanted + 0.5 + lead + 0.1
    status, out, err = run(*search("--save-clips", "clips", "--pad", "0.25", "--format", "json"))
    assert status == 1
    assert {e["error"] for e in json.loads(out)["errors"]} == {"file-exists"}
    assert len(json.loads(out)["data"]) == len(hits)


def test_a_sentence_gives_a_timeline(run, place):
    status, _, err = run(*search("--export", "hits.edl"))
    assert status == 0, err
    assert "written: hits.edl" in err
    assert (place / "hits.edl").read_text().count("FROM CLIP NAME") == 3


def test_labels_of_windows_are_labels_to_learn_from(run, place):
    labels = ("--labels", "a bar,a field,a wall")
    status, out, err = run(
        "classify", "films", "-m", "toy", *labels, "--every", "1", "--export", "found.csv", "--format", "json"
    )
    assert status == 0, err
    best = {(w["path"], w["start"]): w["scores"][0]["label"] for w in json.loads(out)["data"]}
    rows = read_dataset(place / "found.csv").rows
    for (path, start), label in best.items():
        (row,) = [r for r in rows if r.path.name == Path(path).name and r.start <= start < r.end]
        assert row.text == label


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (search("--export", "a.txt"), 2, "must end in .otio"),
        (search("--export", "there.csv"), 3, "exists already"),
        (search("--whole", "--export", "a.csv"), 2, "whole files"),
        (search("--whole", "--save-clips", "x"), 2, "leave out --whole"),
        (("classify", "films", "-m", "toy", "--export", "a.csv"), 2, "windows"),
        (("cut", "films/a.mp4", "2", "1"), 2, "after it starts"),
        (("cut", "films/a.mp4", "2", "1", "--pad", "3"), 2, "must end after it starts, got 2 to 1 s"),
        (("cut", "films/a.mp4", "soon", "1"), 2, "must be seconds"),
        (("cut", "films/a.mp4", "1", "2", "-o", "a.txt"), 2, "must end in .mp4"),
        (("cut", "films/a.mp4", "1", "2", "-o", "there.mp4"), 3, "exists already"),
        (("cut", "films", "1", "2"), 3, "is a folder"),
        (("cut", "films/a.mp4", "50", "60"), 3, "it ends at 4.00 s"),
    ],
)
def test_faults_are_said_before_anything_is_written(run, place, arguments, status, words):
    for name in ("there.csv", "there.mp4"):
        (place / name).write_text("mine")
    before = sorted(p.name for p in place.iterdir())
    code, _, err = run(*arguments)
    assert (code, words in err) == (status, True), err
    assert [p.name for p in sorted(place.iterdir()) if p.name != "stopcli-home"] == [
        n for n in before if n != "stopcli-home"
    ]
    assert (place / "there.csv").read_text() == "mine"


def test_cut_says_what_it_did(run, place):
    status, out, err = run("cut", "films/a.mp4", "0:01.2", "2", "--format", "json")
    assert status == 0, err
    (clip,) = json.loads(out)["data"]
    assert clip["path"] == "a_00.00.01.20-00.00.02.00.mp4"
    assert (clip["mode"], clip["lead"]) == ("copy", pytest.approx(0.2))
    assert "--exact leaves them out" in err
    assert run("cut", "films/a.mp4", "2", "2", "--pad", "0.5", "-o", "around.mp4")[0] == 0
    assert read_facts("around.mp4").duration == pytest.approx(1.0, abs=0.1)
    status, out, _ = run("cut", "films/a.mp4", "1.2", "2", "--exact", "-o", "exact.mp4", "-q")
    assert (status, out) == (0, "exact.mp4\n")


def test_a_page_of_an_earlier_search_does_not_stay_for_the_hits_of_this_one(run, place):
    assert run(*search("--html", "hits.html", "--export", "hits.csv"))[0] == 0
    before = (place / "hits.csv").read_text()
    sure = ("retrieve", "a fox", "films", "-m", "toy", "--window", "1", "--min-confidence", "1")
    status, _, err = run(*sure, "--html", "hits.html", "--export", "hits.csv", "--force")
    assert status == 1
    assert "note: hits.csv is as it was: there is nothing to write" in err
    assert (place / "hits.csv").read_text() == before
    page = (place / "hits.html").read_text()
    assert "No hits" in page
    assert "a bar" not in page


def test_names_of_videos_are_no_options_of_other_programs(run, place, monkeypatch):
    (place / "films" / "a.mp4").rename(place / "films" / "-a.mp4")
    monkeypatch.chdir(place / "films")
    for command in (
        ("retrieve", "a bar", ".", "--whole", "--min-confidence", "0"),
        ("classify", ".", "--labels", "x,y"),
    ):
        status, out, err = run(*command, "-m", place / "toy", "-q")
        assert status == 0, err
        assert sorted(line.partition("\t")[0] for line in out.splitlines()) == ["./-a.mp4", "b.mkv"]


def test_names_as_macs_spell_them_are_cut_and_explained(run, place):
    (place / "films" / "a.mp4").rename(place / "films" / "caf\u0065\u0301.mp4")
    name = "films/caf\u00e9.mp4"
    assert run("cut", name, "1", "2", "-o", "clip.mp4")[0] == 0
    assert run("explain", name, "-m", "toy", "-o", "look.png")[0] == 0


def test_files_are_written_though_nobody_reads_on(place):
    words = "classify films -m toy --labels a,b --window 1 --export all.csv --html all.html"
    for more in ("--format csv", "-q -0"):
        command = f"{sys.executable} -m stopcli {words} --force {more} | head -c 3"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False)
        assert (done.returncode, len(done.stdout)) == (0, 3), done.stderr
        assert {row.path.name for row in read_dataset(place / "all.csv").rows} == {"a.mp4", "b.mkv"}
        for file in (place / "all.csv", place / "all.html"):
            file.unlink()


def test_what_is_written_for_each_video_is_checked_before_any_work(run, place):
    (place / "m_b.srt").write_text("mine")
    words = ("classify", "films", "-m", "toy", "--labels", "a,b", "--window", "1")
    status, out, err = run(*words, "--export", "m.srt")
    assert (status, out) == (3, "")
    assert "m_b.srt exists already" in err
    film = write_video(place / "films" / "b_a.mkv", frames=60)
    before = film.read_bytes()
    status, _, err = run(*words, "--export", "films/b.mkv", "--force")
    assert (status, film.read_bytes()) == (2, before)
    assert "is one of the videos" in err


def test_a_moment_that_goes_beyond_the_film_ends_with_it_and_it_is_said(run, place):
    status, _, err = run("cut", "films/a.mp4", "3", "60", "-o", "end.mp4")
    assert status == 0
    assert f"note: {Path('films/a.mp4')} ends at 4.00 s, and so does the clip" in err
    assert "ends at" not in run("cut", "films/a.mp4", "1", "4.05", "-o", "in.mp4")[2]


def test_folders_tell_films_of_one_name_apart(run, place):
    for day in ("day1", "day2"):
        (place / "films" / day).mkdir()
        (place / "films" / "a.mp4").rename(place / "films" / day / "a.mp4") if day == "day1" else write_video(
            place / "films" / day / "a.mp4", frames=60
        )
    status, out, _ = run(*search("--save-clips", "clips", "--per-file", "1", "--format", "json"))
    assert status == 0
    names = sorted(Path(hit["clip"]).name[9:].partition("_00")[0] for hit in json.loads(out)["data"])
    assert names == ["b", "day1_a", "day2_a"]


def test_a_zero_byte_ends_lines_only(run, place):
    for more in (("-0",), ("-0", "-q", "--format", "csv")):
        status, out, err = run(*search(*more))
        assert (status, out) == (2, "")
        assert "-0 ends the lines of -q" in err
