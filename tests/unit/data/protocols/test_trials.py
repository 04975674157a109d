"""Few shots, base and novel classes: the lists of papers as they are laid out, and tables of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from stopcli.data.protocols.benchmarks import load
from stopcli.data.protocols.trials import load_protocol, locate_protocol, require_whole
from stopcli.errors import BadDataset, FileMissing, UsageError


@pytest.fixture
def hmdb(tmp_path):
    """Lists as ViFi-CLIP has them, of four classes."""
    few, both = tmp_path / "few", tmp_path / "both"
    few.mkdir()
    both.mkdir()
    names = ("brush_hair", "cartwheel", "ride bike", "a, b")
    (few / "hmdb_51_labels.csv").write_text("id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(names)))
    for count in (2, 4):
        lines = [f"train_{c}_{i}.avi {c}\n" for c in range(4) for i in range(count)]
        (few / f"train1_few_shot_{count}.txt").write_text("".join(lines))
    (few / "val1.txt").write_text(
        "".join(f"some [name] {c}_{i}.avi {c}\n" for c in range(4) for i in range(3))
    )
    for part, first in (("base", 0), ("novel", 2)):
        own = "".join(f"{i},{n}\n" for i, n in enumerate(names[first : first + 2]))
        (both / f"hmdb_51_{part}_labels.csv").write_text(f"id,name\n{own}")
        (both / f"{part}_val.txt").write_text("".join(f"{part}_{c}.avi {c}\n" for c in range(2)))
    for seed in (1, 2, 3):
        (both / f"fs_base_s{seed}_train.txt").write_text("".join(f"s{seed}_{c}.avi {c}\n" for c in (0, 0, 1)))
    return tmp_path


def test_lists_of_few_shots_are_read_as_they_are(hmdb):
    found = load_protocol("few-shot", "HMDB51", [hmdb / "few"], [2, 4], [1, 2])
    assert found.tests["test"].labels == ("brush hair", "cartwheel", "ride bike", "a, b")
    assert [(t.shots, t.seed, len(t.training)) for t in found.trials] == [
        (2, 1, 8),
        (2, 2, 8),
        (4, 1, 16),
        (4, 2, 16),
    ]
    assert found.tests["test"].items[-1].texts == ("a, b",)
    assert found.tests["test"].items[-1].video == "some [name] 3_2"
    with pytest.raises(BadDataset, match=r"no list of 8 clips a class \(there are lists of 2, 4"):
        load_protocol("few-shot", "hmdb51", [hmdb / "few"], [8], [1])


def test_clips_are_drawn_where_all_are_listed(hmdb):
    lines = [f"all_{c}_{i}.avi {c}\n" for c in range(4) for i in range(20)]
    (hmdb / "few" / "train1.txt").write_text("".join(lines))
    first, second = load_protocol("few-shot", "hmdb51", [hmdb / "few"], [8], [1, 2]).trials
    assert len(first.training) == len(second.training) == 32
    assert first.training != second.training


def test_the_official_lists_of_hmdb51_will_do(tmp_path):
    for name in ("brush_hair", "cartwheel"):
        rows = [f"{name}_{i}.avi {1 + (i > 6)} \n" for i in range(10)] + [f"{name}_x.avi 0 \n"]
        (tmp_path / f"{name}_test_split1.txt").write_text("".join(rows))
    found = load_protocol("few-shot", "hmdb51", [tmp_path], [2], [1])
    assert (found.tests["test"].labels, len(found.tests["test"].items)) == (("brush hair", "cartwheel"), 6)
    assert len(found.trials[0].training) == 4


def test_the_official_lists_of_ucf101_count_classes_from_one(tmp_path):
    (tmp_path / "classInd.txt").write_text("1 ApplyLipstick\n2 Archery\n")
    (tmp_path / "trainlist01.txt").write_text(
        "".join(f"ApplyLipstick/a{i}.avi 1\nArchery/b{i}.avi 2\n" for i in range(5))
    )
    (tmp_path / "testlist01.txt").write_text("ApplyLipstick/c.avi\nArchery/d.avi\n")
    found = load_protocol("few-shot", "ucf101", [tmp_path], [2], [1])
    assert [i.texts[0] for i in found.tests["test"].items] == ["apply lipstick", "archery"]
    assert {i.texts[0] for i in found.trials[0].training if i.video.startswith("b")} == {"archery"}


def test_classes_that_need_time_and_those_that_do_not_are_lists_like_others(tmp_path):
    for part, names in (
        ("temporal2", ("Moving up", "Moving down")),
        ("static2", ("Holding a cup", "Holding a pen")),
    ):
        folder = tmp_path / part
        folder.mkdir()
        (folder / f"ssv2_{part}_labels.csv").write_text(
            "id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(names))
        )
        (folder / f"train_{part}.txt").write_text("".join(f"{part}t{i}.webm {i % 2}\n" for i in range(12)))
        (folder / f"validation_{part}.txt").write_text("".join(f"{part}v{i}.webm {i}\n" for i in range(2)))
        few = load_protocol("few-shot", "ssv2", [folder], [4], [1])
        assert few.tests["test"].labels == names
        assert len(few.trials[0].training) == 8
        scored = load("ssv2", [folder / f"validation_{part}.txt", folder / f"ssv2_{part}_labels.csv"])
        assert [i.texts[0] for i in scored.splits[0]] == list(names)


def test_base_and_novel_classes_each_have_their_own_labels(hmdb):
    found = load_protocol("base-to-novel", "hmdb51", [hmdb / "both"], [16], [1, 2, 3])
    assert found.tests["base"].labels == ("brush hair", "cartwheel")
    assert found.tests["novel"].labels == ("ride bike", "a, b")
    assert [i.texts[0] for i in found.tests["novel"].items] == ["ride bike", "a, b"]
    assert [(t.shots, t.seed, t.training[0].video) for t in found.trials] == [
        (2, s, f"s{s}_0") for s in (1, 2, 3)
    ]
    with pytest.raises(BadDataset, match="seed 4"):
        load_protocol("base-to-novel", "hmdb51", [hmdb / "both"], [16], [4])


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("val1.txt", "a.avi 4\n", "number 4; there are 4 classes"),
        ("val1.txt", "a.avi\n", "no number"),
        ("val1.txt", "", "no list of clips to score"),
        ("hmdb_51_labels.csv", "no list\n", "no list of labels"),
        ("validation.txt", "a.avi 1\n", "could both be meant"),
    ],
)
def test_lists_that_are_no_lists_are_refused(hmdb, file, text, words):
    (hmdb / "few" / file).write_text(text)
    with pytest.raises(BadDataset, match=words):
        load_protocol("few-shot", "hmdb51", [hmdb / "few"], [2], [1])


def test_what_is_not_there_is_named(hmdb):
    with pytest.raises(FileMissing, match="--annotations"):
        load_protocol("few-shot", "hmdb51", [], [2], [1])
    with pytest.raises(UsageError, match="no data set 'nope'"):
        load_protocol("few-shot", "nope", [], [2], [1])
    videos = hmdb / "videos"
    videos.mkdir()
    for name in ("train_0_0", "train_1_0", "some [name] 0_0"):
        (videos / f"{name}.mp4").touch()
    wanted = load_protocol("few-shot", "hmdb51", [hmdb / "few"], [2], [1])
    found, missing = locate_protocol(wanted, videos)
    assert (len(found.trials[0].training), len(missing)) == (2, 17)
    with pytest.raises(BadDataset, match="no clip to train on of 'a, b' and 1 more"):
        require_whole(found)


def table(folder: Path, rows) -> Path:
    for name, *_ in rows:
        (folder / name).touch()
    lines = "\n".join(",".join(row) for row in rows)
    (folder / "t.csv").write_text(f"path,label,split\n{lines}\n")
    return folder / "t.csv"


def test_a_table_is_divided_by_its_splits(tmp_path):
    rows = [(f"{c}{i}.mp4", f"class {c}", "test" if i > 3 else "train") for c in "abcd" for i in range(6)]
    path = table(tmp_path, rows)
    found = load_protocol("few-shot", str(path), [], [2], [1])
    assert (len(found.trials[0].training), len(found.tests["test"].items)) == (8, 8)
    both = load_protocol("base-to-novel", str(path), [], [3], [1, 2])
    assert both.tests["base"].labels == ("class a", "class b")
    assert both.tests["novel"].labels == ("class c", "class d")
    assert {i.texts[0] for i in both.trials[0].training} == {"class a", "class b"}
    assert locate_protocol(both, None)[0] == both


def test_rows_without_a_split_are_for_training(tmp_path):
    rows = [(f"{c}{i}.mp4", f"class {c}", "test" if i > 3 else "") for c in "ab" for i in range(6)]
    path = table(tmp_path, rows)
    assert len(load_protocol("few-shot", str(path), [], [3], [1]).trials[0].training) == 6
    assert len(load(str(path), []).training) == 8


def test_a_table_without_splits_is_divided_and_its_test_is_not_trained_on(tmp_path):
    path = table(tmp_path, [(f"{c}{i}.mp4", f"class {c}", "") for c in "ab" for i in range(10)])
    found = load_protocol("few-shot", str(path), [], [16], [1])
    trained, asked = (
        set(i.video for i in items) for items in (found.trials[0].training, found.tests["test"].items)
    )
    assert (len(trained), len(asked), trained & asked) == (16, 4, set())


def test_too_few_classes_are_said(tmp_path):
    path = table(tmp_path, [(f"{c}{i}.mp4", f"class {c}", "") for c in "abc" for i in range(4)])
    with pytest.raises(BadDataset, match="has 3 labels; base-to-novel needs at least 4"):
        load_protocol("base-to-novel", str(path), [], [2], [1])


def test_a_table_without_so_many_clips_has_no_row_for_them(tmp_path):
    lines = ["path,label,split"]
    for i in range(10):
        (tmp_path / f"{i}.mp4").write_bytes(b"")
        lines.append(f"{i}.mp4,{'ab'[i % 2]},{'train' if i < 7 else 'test'}")
    (tmp_path / "data.csv").write_text("\n".join(lines))
    found = load_protocol("few-shot", str(tmp_path / "data.csv"), [], [2, 4, 8, 16], [1])
    assert [(t.shots, len(t.training)) for t in found.trials] == [(2, 4), (4, 7)]
    assert "'b' has 3 clips to train on" in found.description
