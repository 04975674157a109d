"""What a search of the bundled clips answers: yes, no, and what is like a picture."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stopcli.output.tables import table_of
from stopcli.results import IndexChange
from stopcli.video.workers.pool import read_pictures


@pytest.fixture
def samples(run, tmp_path):
    run("samples", tmp_path / "samples")
    return tmp_path / "samples"


def search(run_json, *arguments):
    return run_json("retrieve", "-m", "mini", *arguments)


def test_what_is_there_is_found_and_what_is_not_there_is_not(run, run_json, samples):
    status, told = search(run_json, "a dog moving left", samples)
    assert status == 0
    assert told["data"][0]["path"].endswith("a-dog-moving-left.mp4")
    assert told["data"][0]["confidence"] > 0.9
    status, told = search(run_json, "a banana", samples)
    assert (status, told["status"], told["data"]) == (1, "error", [])
    assert [e["error"] for e in told["errors"]] == ["no-match"]
    assert "no confident match for 'a banana'; nearest: " in told["errors"][0]["message"]
    status, told = search(run_json, "a banana", samples, "--min-confidence", "0")
    assert (status, len(told["data"])) == (0, 8)
    status, told = search(
        run_json, "--query", "a banana", "--query", "a rocket moving up", samples, "--min-confidence", "0.5"
    )
    assert (status, told["status"]) == (1, "partial")
    assert {h["query"] for h in told["data"]} == {"a rocket moving up"}
    assert all(h["confidence"] >= 0.5 for h in told["data"])
    status, out, err = run("retrieve", "-m", "mini", "a banana", samples)
    assert (status, out) == (1, "")
    assert "\nno confident match for 'a banana'" in err


def test_a_script_gets_moments_and_each_file_once(run, samples):
    status, out, _ = run("retrieve", "-m", "mini", "a ghost shaking", samples, "-k", "1", "-q")
    path, start, end = out.rstrip("\n").split("\t")
    assert (status, float(start)) == (0, 0.0)
    assert float(end) == pytest.approx(2.6, abs=0.1)
    twice = ("--query", "a ghost shaking", "--query", "a ghost", "-k", "1", "-q", "--whole")
    status, out, err = run("retrieve", "-m", "mini", *twice, samples)
    assert (status, out) == (0, f"{path}\n"), err
    status, out, _ = run("classify", "-m", "mini", path, "--every", "1", "--labels", "a ghost,a dog", "-q")
    assert out.splitlines()[0].split("\t")[1:3] == ["0.000", "1.000"]
    assert all(line.split("\t")[3] == "a ghost" for line in out.splitlines())


def test_a_picture_is_a_query(run_json, samples, tmp_path):
    from PIL import Image

    (frame,) = read_pictures(samples / "a-rocket-moving-up.mp4", [0.5], 96)
    Image.fromarray(frame).save(tmp_path / "rocket.png")
    _, told = search(
        run_json, "--image", tmp_path / "rocket.png", samples, "-k", "1", "--min-confidence", "0"
    )
    (hit,) = told["data"]
    assert hit["query"] == str(tmp_path / "rocket.png")
    assert hit["path"].endswith("a-rocket-moving-up.mp4")
    both = ("--image", tmp_path / "rocket.png", "--query", "a rocket moving up", "--combine")
    _, told = search(run_json, *both, samples, "-k", "1", "--min-confidence", "0")
    (hit,) = told["data"]
    assert hit["query"] == f"a rocket moving up + {tmp_path / 'rocket.png'}"
    assert hit["path"].endswith("a-rocket-moving-up.mp4")


@pytest.mark.parametrize(
    ("name", "data", "status", "words"),
    [
        ("a.png", b"no picture", 3, "not a picture"),
        ("a.svg", b"<svg/>", 3, "not a picture"),
        ("gone.png", None, 3, "no such file"),
    ],
)
def test_a_file_that_is_no_picture_is_an_input_fault(run, samples, tmp_path, name, data, status, words):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    code, out, err = run("retrieve", "-m", "mini", "--image", tmp_path / name, samples)
    assert (code, out, words in err) == (status, "", True), err


def test_an_example_is_not_its_own_answer_but_a_copy_elsewhere_is(run_json, samples):
    film = samples / "a-dog-moving-left.mp4"
    shutil.copy(film, samples / "again.mp4")
    _, told = search(run_json, "--like", film, samples, "--min-confidence", "0", "--all")
    assert told["data"][0]["path"] == str(samples / "again.mp4")
    assert str(film) not in {h["path"] for h in told["data"]}
    assert len(told["data"]) == 8


def test_a_copy_encoded_again_is_folded(run_json, samples):
    film = samples / "a-dog-moving-left.mp4"
    code = """
import sys, av
with av.open(sys.argv[1]) as source, av.open(sys.argv[2], "w") as out:
    stream = out.add_stream("libx264", rate=source.streams.video[0].average_rate, options={"crf": "24"})
    stream.width, stream.height, stream.pix_fmt = source.streams.video[0].width, source.streams.video[0].height, "yuv420p"
    for frame in source.decode(video=0):
        frame.pict_type = 0
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
"""
    subprocess.run([sys.executable, "-c", code, film, samples / "copy.mkv"], check=True)
    _, told = search(run_json, "a dog moving left", samples)
    assert {told["data"][0]["path"], *told["data"][0]["also"]} == {str(film), str(samples / "copy.mkv")}
    assert len(told["data"]) == 8
    _, told = search(run_json, "a dog moving left", samples, "--all")
    assert len(told["data"]) == 9


def test_copies_of_an_example_do_not_lower_its_confidence(run_json, samples):
    shutil.copy(samples / "a-dog-moving-left.mp4", samples.parent / "dog.mp4")
    for i in range(3):
        data = (samples / "a-dog-moving-left.mp4").read_bytes()
        (samples / f"copy-{i}.mp4").write_bytes(data + bytes(i + 1))
    _, told = search(
        run_json, "--like", samples.parent / "dog.mp4", samples, "-k", "1", "--min-confidence", "0"
    )
    assert told["data"][0]["score"] > 0.99
    assert told["data"][0]["confidence"] is None  # eight other clips are too few to tell


def test_grey_pictures_of_sixteen_bits_are_not_white(tmp_path):
    import numpy as np
    from PIL import Image

    from stopcli.video.workers.pool import read_photo

    levels = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    assert 110 < read_photo(tmp_path / "deep.png", 32).mean() < 145


def test_a_sentence_before_other_queries_is_a_query_too(run, samples):
    status, out, _ = run(
        "retrieve",
        "-m",
        "mini",
        "a ghost shaking",
        "--query",
        "a dog moving left",
        samples,
        "-k",
        "1",
        "--format",
        "json",
    )
    assert status == 0
    assert [h["query"] for h in json.loads(out)["data"]] == ["a ghost shaking", "a dog moving left"]


def test_each_query_without_a_hit_is_named(run_json, samples):
    words = (
        "--query",
        "a dog",
        "--query",
        "a banana",
        samples,
        "--min-score",
        "0.5",
        "--min-confidence",
        "0",
    )
    status, told = search(run_json, *words)
    assert (status, told["status"], {h["query"] for h in told["data"]}) == (1, "partial", {"a dog"})
    assert [e["message"] for e in told["errors"]] == ["no hits for 'a banana': nothing passes --min-score"]


def test_labels_are_given_again_and_paths_match_by_their_end(run, run_json, samples):
    dog = samples / "a-dog-moving-left.mp4"
    _, told = run_json("classify", "-m", "mini", dog, "--labels", "a dog", "--labels", "a cat,a house")
    assert {s["label"] for s in told["data"][0]["scores"]} == {"a dog", "a cat", "a house"}
    assert told["data"][0]["scores"][0]["label"] == "a dog"
    (samples / "day").mkdir()
    dog.rename(samples / "day" / dog.name)
    _, told = search(run_json, "a dog", samples, "--glob", "day/*", "--min-confidence", "0")
    assert [Path(h["path"]).name for h in told["data"]] == [dog.name]


def test_more_sure_moments_than_are_taken_are_noted(run, samples, tmp_path):
    for i in range(3):
        data = (samples / "a-dog-moving-left.mp4").read_bytes()
        (samples / f"dog-{i}.mp4").write_bytes(data + bytes(i + 1))
    words = ("a dog moving left", samples, "--all", "--export")
    status, _, err = run("retrieve", "-m", "mini", *words, tmp_path / "a.csv", "-k", "2")
    assert status == 0
    assert "note: 'a dog moving left' has 2 more moments that are as sure" in err
    status, _, err = run("retrieve", "-m", "mini", *words, tmp_path / "b.csv", "-k", "9")
    assert "as sure" not in err


def test_two_indexes_are_counted_together(run_json, samples, tmp_path):
    films = sorted(samples.glob("*.mp4"))
    for i in (0, 1):
        run_json("index", "update", "-m", "mini", *films[4 * i : 4 * i + 4], "--index", tmp_path / f"i{i}")
    parts = [tmp_path / "i0", tmp_path / "i1"]
    _, told = run_json("index", "merge", *parts, "--index", tmp_path / "one")
    assert [change["added"] for change in told["data"]] == [4, 4]
    record = [IndexChange(**{f: d[f] for f in ("folder", "added", "vectors")}) for d in told["data"]]
    assert ["added", "8"] in [[cell.text for cell in row] for row in table_of(record).rows]


def test_what_is_known_of_a_drive_that_is_away_can_be_searched(run_json, run, samples, tmp_path):
    drive, shelf, other = tmp_path / "drive", tmp_path / "shelf", tmp_path / "other"
    for folder, names in ((drive / "deep", "a-*.mp4"), (other, "an-*.mp4")):
        folder.mkdir(parents=True)
        for film in samples.glob(names):
            shutil.copy(film, folder)
    status, before = search(run_json, "a dog moving left", drive, other)
    assert status == 0
    drive.rename(shelf)
    assert search(run_json, "a dog moving left", drive)[0] == 3
    for mounted in (False, True):
        if mounted:
            drive.mkdir()  # the mount point alone
        for paths in ((drive,), (drive, other)):
            status, told = search(run_json, "a dog moving left", *paths, "--away")
            assert status == 0
            (hit,) = (h for h in told["data"] if h["rank"] == 1)
            assert hit["path"] == before["data"][0]["path"]
    film = drive / "deep" / "a-dog-moving-left.mp4"
    status, told = search(run_json, "a dog moving left", film, "--away")
    assert (status, [hit["path"] for hit in told["data"]]) == (0, [str(film)])
    for more, code in (((), 3), ((other,), 1)):
        status, _, err = run("retrieve", "-m", "mini", "a dog", tmp_path / "nowhere", *more, "--away")
        assert (status, "nowhere: no such file, nor known in the index" in err) == (code, True)
    run("index", "compact")
    drive.rmdir()
    shelf.rename(drive)
    assert (
        "0 to embed, 0 moved, 0 removed" in run("index", "update", "-m", "mini", drive, other, "--dry-run")[2]
    )
    assert search(run_json, "a dog moving left", drive, other, "--away") == (0, before)


def test_a_file_that_is_not_asked_for_is_not_complained_about(run_json, samples):
    (samples / "old").mkdir()
    (samples / "old" / "broken.mp4").write_bytes(b"no film")
    status, told = search(run_json, "a dog moving left", samples, "--glob", "a-dog*")
    assert (status, told["errors"]) == (0, [])
    named = (samples / "a-dog-moving-left.mp4", samples / "old" / "broken.mp4")
    status, told = search(run_json, "a dog moving left", *named)
    assert (status, len(told["errors"])) == (1, 1)
