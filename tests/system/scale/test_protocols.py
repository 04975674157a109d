"""Few-shot and base-to-novel as commands: trained, asked, written, gone on with."""

from __future__ import annotations

import csv
import json

import pytest

from conftest import write_model, write_video
from labelled_clips import sliding


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A toy without prompts; lists of two base classes and two novel ones, in HMDB51's layout."""
    folder = tmp_path_factory.mktemp("trials")
    write_model(folder / "model")
    splits, videos = folder / "splits", folder / "videos"
    splits.mkdir()
    videos.mkdir()
    quality = {"preset": "ultrafast"}
    for part, names in (("base", ("open_door", "shut_door")), ("novel", ("climb", "fall"))):
        (splits / f"hmdb_51_{part}_labels.csv").write_text(
            "id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(names))
        )
        val, train = [], []
        for c in range(2):
            for i in range(6):
                name = f"{part}_{c}_{i}"
                write_video(
                    videos / f"{name}.mp4", frames=10 + i, fps=6, draw=sliding(1 - 2 * c), options=quality
                )
                (val if i > 3 else train).append(f"{name}.avi {c}\n")
        (splits / f"{part}_val.txt").write_text("".join(val))
        if part == "base":
            for seed in (1, 2):
                (splits / f"fs_base_s{seed}_train.txt").write_text(
                    "".join(train[seed - 1 :: 2] + train[:1] + train[-1:])
                )
    return folder


def test_base_and_novel_stand_together_and_a_second_start_trains_nothing(run, place, tmp_path):
    command = ("benchmark", "base-to-novel", "--dataset", "hmdb51", "--annotations", place / "splits")
    command += (
        "--videos",
        place / "videos",
        "-m",
        place / "model",
        "--seeds",
        "1,2",
        "--epochs",
        "2",
        "--mix",
    )
    command = (*map(str, command), "-o", str(tmp_path / "out"), "--format", "json")
    status, out, err = run(*command)
    assert status == 0, err
    rows = json.loads(out)["data"]
    measured = [row for row in rows if not row["published"]]
    weights = [row["weights"] for row in measured]
    assert weights[:2] == ["untrained", "last epoch"]
    assert weights[-1] == "best epoch"
    assert weights[2:-1] == [f"last epoch, {n} % untrained" for n in (10, 25, 40, 60, 80, 100)]
    for row in measured:
        base, novel, mean = (row["scores"][name] for name in ("base", "novel", "harmonic mean"))
        if len(row["seeds"]) < 2:
            assert mean == pytest.approx(2 * base * novel / (base + novel) if base + novel else 0)
        for seed in row["seeds"].values():
            assert set(seed) == {"base", "novel", "harmonic mean"}
    whole = next(row for row in measured if row["weights"].endswith("100 % untrained"))
    assert whole["scores"] == measured[0]["scores"]  # all of it untrained is plain CLIP
    assert {row["method"] for row in rows if row["published"]} >= {"VPT (published, ViT-B/16)"}
    assert next(r for r in rows if r["method"].startswith("VPT"))["scores"]["novel"] == 16.0
    with (tmp_path / "out" / "results.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == len(rows)
    assert (
        "| VPT (published, ViT-B/16) | 16 | best epoch | 46.2 | 16.0 | 23.8 |"
        in (tmp_path / "out/results.md").read_text()
    )
    status, again, err = run(*command)
    assert status == 0
    assert json.loads(again)["data"] == rows
    assert "step 1" not in err


def test_few_shots_of_a_table_report_the_last_and_the_best_epoch(run, place, tmp_path):
    lines = [
        f"{p},{'up' if '_0_' in p.name else 'down'}" for p in sorted((place / "videos").glob("base*.mp4"))
    ]
    (tmp_path / "t.csv").write_text("path,label\n" + "\n".join(lines))
    command = (
        "benchmark",
        "few-shot",
        "--dataset",
        tmp_path / "t.csv",
        "-m",
        place / "model",
        "--shots",
        "1,2",
    )
    command = (
        *map(str, command),
        "--seeds",
        "1,2",
        "--epochs",
        "2",
        "-o",
        str(tmp_path / "out"),
        "--format",
        "json",
    )
    status, out, err = run(*command)
    assert status == 0, err
    rows = json.loads(out)["data"]
    assert [(r["shots"], r["weights"]) for r in rows] == [
        (None, "untrained"),
        *((n, w) for n in (1, 2) for w in ("last epoch", "best epoch")),
    ]
    for row in rows[1:]:
        each = [seed["top-1"] for seed in row["seeds"].values()]
        assert row["scores"]["top-1"] == pytest.approx(sum(each) / 2)
    for last, best in ((rows[1], rows[2]), (rows[3], rows[4])):
        assert best["scores"]["top-1"] >= last["scores"]["top-1"]  # it is picked on the very clips


def test_other_settings_in_the_same_folder_are_refused(run, place, tmp_path):
    lines = [
        f"{p},{'up' if '_0_' in p.name else 'down'}" for p in sorted((place / "videos").glob("base*.mp4"))
    ]
    (tmp_path / "t.csv").write_text("path,label\n" + "\n".join(lines))
    command = (
        "benchmark",
        "few-shot",
        "--dataset",
        tmp_path / "t.csv",
        "-m",
        place / "model",
        "--shots",
        "1",
    )
    command = (*map(str, command), "--seeds", "1", "-o", str(tmp_path / "out"))
    assert run(*command, "--epochs", "1")[0] == 0
    status, _, err = run(*command, "--epochs", "2")
    assert (status, "--force" in err) == (3, True)
    assert run(*command, "--epochs", "2", "--force")[0] == 0
