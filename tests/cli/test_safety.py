"""What comes out acts on nothing: no terminal, no spreadsheet, no other user; and nothing ends in a traceback."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from conftest import write_video
from stopcli.runtime.encoder import Encoder

LABELS = "a bar,a ball"


@pytest.fixture
def evil(tmp_path):
    """A folder with a film whose name would colour the terminal and forge a line."""
    folder = tmp_path / "films"
    folder.mkdir()
    write_video(folder / "v.mp4", frames=5).rename(folder / "=a\x1b[31m\nok: all done.mp4")
    (folder / "bad\x1b]0;title\x07.mp4").write_bytes(b"no film" * 9)
    return folder


@pytest.mark.parametrize("form", [["-q"], ["--format", "csv"], []])
def test_names_reach_the_terminal_without_control_characters(run, toy, evil, form, monkeypatch):
    monkeypatch.chdir(evil)
    _, out, err = run("classify", ".", "-m", toy, "--labels", LABELS, *form)
    assert "=a" in out
    assert not set(out + err) & {"\x1b", "\x07", "\r"}
    assert not any(line.startswith("ok: all done") for line in (out + err).splitlines())


def test_programs_get_names_as_they_are(run, run_json, toy, evil):
    _, out, _ = run("classify", evil, "-m", toy, "--labels", LABELS, "-q", "-0")
    assert out.split("\0")[0].split("\t")[0].endswith("/=a\x1b[31m\nok: all done.mp4")
    _, told = run_json("classify", evil, "-m", toy, "--labels", LABELS)
    assert told["data"][0]["path"].endswith("=a\x1b[31m\nok: all done.mp4")


def test_a_spreadsheet_runs_no_cell(run, toy, clips):
    command = ("classify", clips / "a.mp4", "-m", toy, "--labels", "=1+1,@x", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(run(*command)[1])))
    assert {r["label"] for r in rows} == {"'=1+1", "'@x"}
    rows = list(csv.DictReader(io.StringIO(run(*command, "--raw")[1])))
    assert {r["label"] for r in rows} == {"=1+1", "@x"}


def test_a_terminal_that_knows_few_letters_gets_escapes(toy, clips, tmp_path):
    film = tmp_path / "caf\u00e9 \u4e2d.mp4"
    film.write_bytes((clips / "a.mp4").read_bytes())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-m", "stopcli", "classify", film, "-m", toy, "--labels", LABELS]
    done = subprocess.run(list(map(str, command)), capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"caf\\xe9" in done.stdout
    done = subprocess.run(
        [*map(str, command), "--format", "json"], capture_output=True, env=environment, check=False
    )
    assert json.loads(done.stdout)["data"][0]["path"] == str(film)


def test_what_nobody_expected_is_one_line_and_keeps_the_results(run_json, run, toy, clips, monkeypatch):
    whole = Encoder.encode_videos

    def breaks(self, paths, **options):
        yield from whole(self, [clips / "a.mp4"], **options)
        raise ZeroDivisionError("of all things\nhere")

    monkeypatch.setattr(Encoder, "encode_videos", breaks)
    status, told = run_json("classify", clips, "-m", toy, "--labels", LABELS)
    assert status == 1
    assert [d["path"] for d in told["data"]] == [str(clips / "a.mp4")]
    (error,) = told["errors"]
    assert error["error"] == "internal-error"
    assert "ZeroDivisionError: of all things here" in error["message"]
    status, _, err = run("classify", clips, "-m", toy, "--labels", LABELS)
    assert (status, "Traceback" in err, "--verbose" in err) == (1, False, True)
    with pytest.raises(ZeroDivisionError):
        run("classify", clips, "-m", toy, "--labels", LABELS, "-v")


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_what_is_kept_is_for_its_owner_only(run, toy, clips, tmp_path, monkeypatch):
    home = tmp_path / "new" / "home"
    monkeypatch.setenv("STOPCLI_HOME", str(home))
    old = os.umask(0o022)
    try:
        assert run("retrieve", "a dog", "--min-confidence", "0", clips / "a.mp4", "-m", toy)[0] == 0
    finally:
        os.umask(old)
    for folder in (home, home / "index"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_an_address_is_no_file(run, toy):
    for address in ("https://example.org/a.mp4", "rtsp://camera/1"):
        status, _, err = run("classify", address, "-m", toy)
        assert (status, "only files are read, so download it first" in err) == (3, True)


def test_a_deep_tree_and_odd_names_do_not_end_a_run(run, toy, clips, tmp_path):
    """1,500 folders deep: longer than any path may be."""
    (tmp_path / "a.mp4").write_bytes((clips / "a.mp4").read_bytes())
    here = os.getcwd()  # noqa: PTH109
    try:
        os.chdir(tmp_path)
        for _ in range(1500):
            os.mkdir("deeper")  # noqa: PTH102
            os.chdir("deeper")
    finally:
        os.chdir(here)
    status, out, err = run("classify", tmp_path, "x" * 5000, "-m", toy, "--labels", LABELS, "-q")
    assert (status, "a.mp4" in out, "Traceback" in err) == (1, True, False)
    subprocess.run(["rm", "-rf", tmp_path / "deeper"], check=True)


def test_lists_of_windows_are_read(run_json, toy, clips, tmp_path):
    names = f"{clips / 'a.mp4'}\r\n{clips / 'deeper' / 'b.mkv'}\r\n"
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "list.txt").write_bytes(names.encode(encoding))
        status, told = run_json(
            "classify", "-m", toy, "--labels", LABELS, "--files-from", tmp_path / "list.txt"
        )
        assert (status, len(told["data"])) == (0, 2)


def test_a_text_that_is_longer_than_the_model_reads_is_noted(run, toy, clips):
    long = "a dog that runs " * 5 + "home " * 3  # 24 tokens are read, two of which are marks
    _, _, err = run("retrieve", long, clips / "a.mp4", "-m", toy)
    assert "is too long; not read: 'home'\n" in err
    _, _, err = run("retrieve", "a dog that runs through a field", clips / "a.mp4", "-m", toy)
    assert "not read" not in err
    labels = ",".join(f"{i} {long}" for i in range(9))
    _, _, err = run("classify", clips / "a.mp4", "-m", toy, "--labels", labels)
    assert err.count("is too long; not read") == 5
    assert "and of 4 more texts" in err


def test_a_pipe_among_films_is_one_failed_file(run_json, run, toy, clips, tmp_path):
    (tmp_path / "a.mp4").write_bytes((clips / "a.mp4").read_bytes())
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    for command in (
        ("index", "update", tmp_path),
        ("retrieve", "--min-confidence", "0", tmp_path, "--query", "a dog"),
    ):
        status, told = run_json(*command, "-m", toy)
        assert (status, len(told["errors"])) == (1, 2)
        assert "a pipe, a socket or a device" in told["errors"][0]["message"]
    status, _, _ = run("index", "update", tmp_path / "pipe.mp4", "-m", toy)
    assert status == 3


def test_an_output_that_cannot_be_written_is_one_line(run, toy, clips):
    run("index", "update", clips / "a.mp4", "-m", toy)
    command = [sys.executable, "-m", "stopcli", "index", "ls", "--format", "csv"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "the output cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_labels_that_read_the_same_are_warned_of(run, clips, toy):
    for labels, text in (
        ("kal,dru", "'kal' and 'dru' are the same"),
        ("a dog,wof,kal,dru", "3 of 4 labels, 'wof' and 'kal' among them, are the same"),
    ):
        _, _, err = run("classify", clips / "a.mp4", "-m", "mini", "--device", "cpu", "--labels", labels)
        assert f"warning: {text} to this model; stop finetune learns them from clips" in err
    assert "the same" not in run("classify", clips / "a.mp4", "-m", toy, "--labels", "a dog,a cat")[2]


def test_words_that_mean_nothing_are_learnt_from_clips_in_one_command(run, run_json, clips, tmp_path):
    from conftest import write_video

    def ground(level):
        return lambda i, w, h: np.full((h, w, 3), level + i, np.uint8)

    for i in range(6):
        for name, level in (("kal", 30), ("dru", 200)):
            write_video(tmp_path / f"{name}{i}.mp4", frames=8, draw=ground(level + 3 * i))
    rows = "".join(
        f"{n}{i}.mp4,{n},{'train' if i < 3 else 'test'}\n" for n in ("kal", "dru") for i in range(6)
    )
    (tmp_path / "t.csv").write_text(f"path,label,split\n{rows}")
    status, told = run_json(
        "finetune", tmp_path / "t.csv", "-m", "mini", "--epochs", "0", "-o", tmp_path / "m", "--device", "cpu"
    )
    assert status == 0
    made = told["data"][0]
    assert (made["steps"], made["test"]) == (0, 100.0)
    assert "prototypes" in made["head"]
    status, told = run_json("classify", tmp_path / "kal5.mp4", "-m", tmp_path / "m", "--device", "cpu")
    assert told["data"][0]["scores"][0]["label"] == "kal"
    status, out, err = run("classify", tmp_path / "dru5.mp4", "-m", tmp_path / "m", "--device", "cpu", "-q")
    assert (out.split()[-1], "the same" in err) == ("dru", False)
    status, told = run_json(
        "benchmark", "accuracy", "--dataset", tmp_path / "t.csv", "-m", tmp_path / "m", "--device", "cpu"
    )
    scores = {s["method"]: s["scores"]["top-1"] for s in told["data"]}
    assert scores["STOP, head"] == 100
    _, told = run_json(
        "classify", tmp_path / "kal5.mp4", "-m", tmp_path / "m", "--device", "cpu", "--labels", "a dog,a cat"
    )
    assert {s["label"] for s in told["data"][0]["scores"]} == {"a dog", "a cat"}  # from their words
    status, _, err = run(
        "finetune", tmp_path / "t.csv", "-m", "mini", "--epochs", "0", "--head", "text", "-o", tmp_path / "n"
    )
    assert (status, "leave nothing to learn" in err) == (2, True)
