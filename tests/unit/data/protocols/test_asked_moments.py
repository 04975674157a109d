"""What is asked of videos: QVHighlights' lines, Charades-STA's lines, a table of captions with times."""

from __future__ import annotations

import pytest

from stopcli.data.protocols.moments import load_moments
from stopcli.errors import BadDataset, FileMissing, UsageError

QV = '{"qid": 1, "query": "A dog runs. ", "duration": 150, "vid": "abc_60.0_210.0", "relevant_windows": [[0, 16], [40, 50]]}\n'


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("abc_60.0_210.0", "3MSZA"):
        (folder / f"{name}.mp4").touch()
    return folder


def test_qvhighlights_as_published(tmp_path, videos):
    file = tmp_path / "highlight_val_release.jsonl"
    file.write_text(QV + QV.replace("abc_60.0_210.0", "gone_1_2"))
    asked, missing = load_moments("QVHighlights", [file], videos)
    assert [(a.text, a.item.path.stem, a.spans) for a in asked] == [
        ("A dog runs.", "abc_60.0_210.0", ((0.0, 16.0), (40.0, 50.0)))
    ]
    assert missing == ("gone_1_2",)


def test_charades_sta_as_published_and_moments_of_no_length_are_left_out(tmp_path, videos):
    file = tmp_path / "charades_sta_test.txt"
    file.write_text("3MSZA 24.3 30.4##person turn on the light.\n3MSZA 10.0 10.0##nothing.\n")
    asked, _ = load_moments("charades-sta", [file], videos)
    assert [(a.text, a.spans) for a in asked] == [("person turn on the light.", ((24.3, 30.4),))]


def test_a_caption_that_a_video_has_twice_is_asked_once(tmp_path, videos):
    (tmp_path / "t.csv").write_text(
        "path,caption,start,end\nvideos/3MSZA.mp4,a dog,1,2\nvideos/3MSZA.mp4,a dog,0:05,6\nvideos/3MSZA.mp4,a cat,,3\n"
    )
    asked, missing = load_moments(str(tmp_path / "t.csv"), [], None)
    assert [(a.text, a.spans) for a in asked] == [
        ("a dog", ((1.0, 2.0), (5.0, 6.0))),
        ("a cat", ((0.0, 3.0),)),
    ]
    assert missing == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qvhighlights", ""),
        ("qvhighlights", "no json\n"),
        ("qvhighlights", "[1]\n"),
        ("qvhighlights", QV.replace("[0, 16]", "[16, 0]")),
        ("qvhighlights", QV.replace("[0, 16]", '["x", 16]')),
        ("qvhighlights", QV.replace("[[0, 16], [40, 50]]", "[]")),
        ("qvhighlights", QV.replace("[0, 16]", "5")),
        ("qvhighlights", QV.replace('"query"', '"question"')),
        ("charades-sta", "3MSZA 24.3 30.4 person turn on the light.\n"),
    ],
)
def test_what_is_not_as_published_is_refused(tmp_path, videos, name, text):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(BadDataset, match=r"a\.txt: not as published"):
        load_moments(name, [tmp_path / "a.txt"], videos)


def test_what_is_not_there_is_named(tmp_path, videos):
    with pytest.raises(UsageError, match="no data set"):
        load_moments("nope", [], None)
    with pytest.raises(FileMissing, match="--annotations"):
        load_moments("qvhighlights", [], videos)
    (tmp_path / "a.jsonl").write_text(QV)
    with pytest.raises(UsageError, match="--videos"):
        load_moments("qvhighlights", [tmp_path / "a.jsonl"], None)
    (tmp_path / "t.csv").write_text("path,caption\nvideos/3MSZA.mp4,a dog\n")
    with pytest.raises(BadDataset, match="row 2 has no end"):
        load_moments(str(tmp_path / "t.csv"), [], None)
