"""What cannot be done: one clear sentence, the right exit code, and the envelope whatever the format."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from conftest import write_video

LABELS = "a dog,a cat,a house"


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "x.mp4", frames=5)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["clasify", "x"], 2, "Did you mean 'classify'?"),
        (["index", "updat", "x"], 2, "Did you mean 'update'?"),
        (["classify"], 2, "no video named"),
        (["classify", "VIDEO", "--frames", "0"], 2, "'--frames': must be at least 1"),
        (["classify", "VIDEO", "--batch-size", "many"], 2, "must be auto or a number from 1"),
        (["classify", "VIDEO", "--window", "0"], 2, "'--window'"),
        (["classify", "VIDEO", "--top-k", "0"], 2, "'--top-k'"),
        (["classify", "VIDEO", "--labels", "one"], 2, "separate them with commas"),
        (["classify", "VIDEO", "--html", "x.txt"], 2, "must end in .html, .htm"),
        (["classify", "VIDEO", "--window", "1:00"], 2, "must be a number"),
        (["explain", "VIDEO", "-o", "y.png", "--start", "2", "--end", "1"], 2, "--end must be after --start"),
        (["models", "lst"], 2, "see 'stop models --help'"),
        (["classify", "VIDEO", "--labels", "@none.txt"], 3, "none.txt: No such file"),
        (["classify", "VIDEO", "--labels", "a,b", "--template", "x"], 2, "must hold {}"),
        (["classify", "VIDEO", "--html", "no/x.html"], 2, "--html no/x.html: the folder no does not exist"),
        (["classify", "VIDEO", "-m", "mimi"], 4, "did you mean mini?"),
        (["classify", "VIDEO", "-m", "vit-b-32"], 4, "stop models pull vit-b-32"),
        (["retrieve", "VIDEO"], 2, "nothing to look for"),
        (["retrieve", "--query", "a", "VIDEO", "--html", "no/x.html"], 2, "the folder no does not exist"),
        (["retrieve", "--like", "a.mp4@x", "VIDEO"], 2, "--like must be FILE or FILE@TIME"),
        (["embed", "VIDEO", "-o", "x.txt"], 2, "must end in .npz, .npy, .parquet"),
        (["embed", "VIDEO", "--text", "a", "-o", "x.npz"], 2, "give one of them"),
        (["explain", "VIDEO", "-o", "x.gif"], 2, "must end in .png, .html, .mp4"),
        (["finetune", "none.csv", "--epochs", "-1"], 2, "'--epochs'"),
        (["finetune", "none.csv", "--resume", "--force"], 2, "give one of them"),
        (["benchmark", "speed", "--precisions", "fp8"], 2, "--precisions takes auto, fp32, bf16, fp16"),
        (["index", "rm"], 2, "name files or folders, or give --space or --all"),
        (["index", "rm", "--all", "VIDEO"], 2, "name files or folders, or give --space or --all"),
        (["models", "info", "hf:x"], 2, "hf:org/repo"),
    ],
)
def test_what_cannot_be_is_one_clear_error(run, arguments, status, text, monkeypatch, tmp_path, video):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path)
    found, out, err = run(*(video if a == "VIDEO" else a for a in arguments))
    assert (found, out) == (status, ""), err
    assert text in err
    assert err.count("error: ") == 1
    assert len(err.splitlines()) == 1, err


def test_a_word_that_is_a_folder_too_is_asked_for_by_name(run, clips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "goal").mkdir()
    status, _, err = run("retrieve", "goal", clips)
    assert status == 2
    assert "'goal' is taken as the folder of that name; to look for the word, give --query goal" in err


def test_more_faults_with_a_model(run, toy, clips, tmp_path):
    for arguments, status, text in (
        (["classify", clips / "broken.mp4"], 3, "skipped"),
        (["classify", tmp_path], 3, "no video found"),
        (["classify", clips / "a.mp4", "--labels", "a,b", "--device", "cuda:77"], 5, " device"),
        (["embed", clips / "a.mp4", "-o", tmp_path / "no" / "x.npz"], 2, "does not exist"),
        (["retrieve", clips, "--query", " "], 2, "empty"),
        (["retrieve", clips, "--like", clips / "broken.mp4"], 3, "broken.mp4: not a video"),
        (["explain", clips, "-o", tmp_path / "x.png"], 3, "folder"),
    ):
        found, _, err = run(*arguments, "-m", toy)
        assert (found, text in err) == (status, True), err


@pytest.mark.parametrize(
    "command",
    [
        ["classify"],
        ["retrieve", "--query", "a"],
        ["embed", "-o", "x.npz"],
        ["explain", "-o", "x.png"],
        ["index", "update"],
        ["benchmark", "speed"],
    ],
    ids=lambda command: command[0],
)
def test_a_missing_input_is_told_before_a_model_is_looked_for(run, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*command, "nowhere.mp4", "-m", "no-such-model")
    assert (status, out) == (3, "")
    assert err.splitlines() == [
        "skipped: nowhere.mp4: no such file or folder",
        "error: nothing was done: the input could not be used",
    ]


def test_one_missing_input_does_not_stop_the_others(run_json, toy, clips):
    status, told = run_json("classify", clips / "a.mp4", "nowhere.mp4", "-m", toy, "--labels", LABELS)
    assert (status, told["status"], len(told["data"])) == (1, "partial", 1)
    assert [(e["path"], e["error"]) for e in told["errors"]] == [("nowhere.mp4", "file-missing")]


def test_an_error_that_ends_a_command_is_json_too(run_json, run, clips):
    status, told = run_json("classify", clips, "-m", "mimi")
    assert (status, told["status"], told["data"]) == (4, "error", [])
    assert told["errors"] == [
        {"path": None, "error": "model-not-found", "message": told["errors"][0]["message"]}
    ]
    assert "did you mean mini?" in told["errors"][0]["message"]
    status, out, err = run("embed", clips, "-m", "mimi", "-o", "x.npz", "--format", "jsonl")
    assert (status, json.loads(out)["error"]) == (4, "model-not-found")
    assert "error:" in err


def test_the_default_model_is_the_configured_one(run_json, run, toy, clips, tmp_path):
    (tmp_path / "config" / "stopcli").mkdir(parents=True)
    settings = tmp_path / "config" / "stopcli" / "config.toml"
    settings.write_text(f'model = "{toy}"\n')
    if sys.platform != "linux":
        pytest.skip("the settings lie elsewhere")
    status, _ = run_json("classify", clips / "a.mp4", "--labels", LABELS)
    assert status == 0
    settings.write_bytes(b"\xef\xbb\xbf" + settings.read_bytes())  # as Windows saves it
    status, _ = run_json("classify", clips / "a.mp4", "--labels", LABELS)
    assert status == 0
    settings.write_text("model = ")
    status, _, err = run("classify", clips / "a.mp4")
    assert status == 2
    assert "not readable as TOML" in err


def test_a_frames_limit_that_is_no_number_is_told(run, tmp_path, monkeypatch, toy, video):
    monkeypatch.setenv("STOPCLI_FRAMES_GB", "lots")
    table = tmp_path / "t.csv"
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"{name}.mp4", frames=5)
    table.write_text("path,label\nx.mp4,dog\na.mp4,dog\nb.mp4,cat\nc.mp4,cat\n")
    status, _, err = run("finetune", table, "-m", toy, "-o", tmp_path / "out")
    assert (status, "STOPCLI_FRAMES_GB must be a number of gigabytes" in err) == (2, True), err


def test_a_search_that_finds_nothing_does_not_say_that_nothing_was_done(run, run_json, toy, clips):
    """Two good videos and a broken one: the search was done, and its answer is empty."""
    arguments = ("retrieve", "a dog", clips, "-m", toy, "--min-score", "2")
    status, _, err = run(*arguments)
    assert (status, "nothing was done" in err) == (1, False), err
    assert "broken.mp4" in err
    status, told = run_json(*arguments)
    assert told["data"] == []
    assert {e["error"] for e in told["errors"]} == {"no-match"}  # the broken one is known by now


def test_a_file_that_is_known_to_be_broken_fails_where_it_is_named(run, toy, clips, tmp_path):
    broken, good = clips / "broken.mp4", clips / "a.mp4"
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "broken.mp4").write_bytes(broken.read_bytes())
    for paths, expected in (
        ((clips,), 1),
        ((clips,), 0),
        ((good, broken), 1),
        ((broken,), 3),
        ((tmp_path / "alone",), 3),
    ):
        status, _, err = run("retrieve", "a dog", *paths, "-m", toy, "--min-confidence", "0")
        assert (status, "skipped:" in err) == (expected, expected > 0), (paths, err)


def test_a_new_file_of_known_content_and_a_folder_of_nothing_else_are_named(run, toy, clips, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    (films / "broken.mp4").write_bytes((clips / "broken.mp4").read_bytes())
    (films / "a.mp4").write_bytes((clips / "a.mp4").read_bytes())
    search = ("retrieve", "a dog", films, "-m", toy, "--min-confidence", "0")
    assert [run(*search)[0] for _ in range(2)] == [1, 0]
    (films / "second.mp4").write_bytes((clips / "broken.mp4").read_bytes())
    status, _, err = run(*search)
    assert (status, "skipped:" in err, "second.mp4" in err) == (1, True, True), err
    assert run(*search)[0] == 0
    bad = tmp_path / "bad"
    bad.mkdir()
    (films / "second.mp4").rename(bad / "second.mp4")
    both = ("retrieve", "a dog", films / "a.mp4", bad, "-m", toy, "--min-confidence", "0")
    assert [run(*both)[0] for _ in range(2)] == [1, 1]  # nothing in that folder can be read
    (tmp_path / "h.html").write_text("yesterday's")
    status, _, err = run("retrieve", "a dog", bad, "-m", toy, "--html", tmp_path / "h.html", "--force")
    assert (status, (tmp_path / "h.html").read_text()) == (3, "yesterday's")
    assert "as it was" in err


@pytest.mark.parametrize("command", ["explain", "classify"])
def test_a_device_that_is_not_here_is_told_before_a_model_is_fetched(run, command, video, monkeypatch):
    monkeypatch.setattr("stopcli.hub.registry.fetch", lambda *_, **__: pytest.fail("fetched"))
    more = ["-o", "x.png"] if command == "explain" else []
    status, _, err = run(command, video, "-m", "vit-b-32", "--device", "cuda:99", *more)
    assert status in (2, 5), err  # a plain model has nothing to explain, which is told first


def test_a_plain_model_has_nothing_to_explain(run, video, monkeypatch, plain, tmp_path):
    monkeypatch.setattr("stopcli.hub.registry.fetch", lambda *_, **__: pytest.fail("fetched"))
    monkeypatch.setattr("stopcli.runtime.encoder.load_model", lambda *_: pytest.fail("loaded"))
    for model in ("vit-b-32", plain):
        status, _, err = run("explain", video, "-m", model, "-o", tmp_path / "x.png")
        assert (status, "has no prompts to show" in err) == (2, True), err


def test_a_path_that_the_index_does_not_know_is_told(run):
    for command in ("ls", "rm"):
        status, out, err = run("index", command, "nowhere.mp4")
        assert (status, out, "neither in the index nor on the disk" in err) == (3, "", True), err


def test_an_output_never_replaces_the_video_itself(run, toy, tmp_path):
    video = write_video(tmp_path / "a.mp4", frames=5)
    before = video.read_bytes()
    status, _, err = run("explain", video, "-o", video, "--force", "-m", toy)
    assert (status, "is the video itself" in err, video.read_bytes() == before) == (2, True, True), err


def test_the_rows_beside_an_npy_are_never_somebody_elses_file(run, toy, video, tmp_path):
    mine = tmp_path / "v.jsonl"
    mine.write_text("mine")
    status, _, err = run("embed", video, "-o", tmp_path / "v.npy", "-m", toy)
    assert (status, "v.jsonl" in err, mine.read_text()) == (3, True, "mine"), err


def test_a_full_disk_behind_stdout_is_one_line(toy, video):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m stopcli models list > /dev/full"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written (No space left on device)\n"


def test_a_search_without_hits_says_so(run, toy, video):
    status, out, err = run("retrieve", "a dog", video, "-m", toy, "--min-score", "2")
    assert (status, out, "no hits" in err) == (1, "", True)
