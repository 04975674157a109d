"""Labels as annotation tools keep them: the same moments, whoever wrote them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from annotated import moments, write_films, written

from conftest import write_video
from stopcli.data.table import read_dataset
from stopcli.errors import BadDataset
from stopcli.output.export import export
from stopcli.results import Hit


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("filmed"))


def boris(events, files=("match.mp4",), lengths=None, **more):
    kinds = {"0": {"code": "serve", "type": "State event"}, "1": {"code": "fall", "type": "Point event"}}
    media = {"file": {"1": list(files), "2": []}, "media_info": {"length": lengths or {}}, "events": events}
    return {"project_format_version": "7.0", "behaviors_conf": kinds, "observations": {"first": media | more}}


def test_boris_states_last_from_start_to_stop(filmed):
    events = [[3.5, "A", "serve", "", ""], [1.0, "A", "serve", "", ""], [2.0, "B", "serve", "", ""]]
    events += [["2.5", "B", "serve", "", ""], [4.0, "", "fall", "", "", 40]]
    data = read_dataset(written(filmed, "a.boris", boris(events)))
    assert moments(data) == [
        ("match.mp4", "serve", 2.0, 2.5),
        ("match.mp4", "serve", 1.0, 3.5),
        ("match.mp4", "fall", 3.0, 5.0),
    ]
    assert "without an end" in data.notes[0]


def test_boris_counts_through_files_that_are_played_in_a_row(filmed):
    files, lengths = ["match.mp4", "elsewhere/second half.mp4"], {"match.mp4": 5.0}
    events = [[t, "", "serve", "", ""] for t in (1, 2, 6, 7.5)]
    data = read_dataset(written(filmed, "b.boris", boris(events, files, lengths)))
    assert moments(data) == [("match.mp4", "serve", 1, 2), ("second half.mp4", "serve", 1, 2.5)]


def test_boris_events_around_the_end_of_a_file_stay_in_theirs(filmed):
    """A point in the second file's first second went to the first file, and a state that goes on was refused."""
    files, lengths = ["match.mp4", "second half.mp4"], {"match.mp4": 5.0, "second half.mp4": 5.0}
    events = [[5.2, "", "fall", "", ""], [4.6, "", "fall", "", ""]]
    events += [[t, "", "serve", "", ""] for t in (4.0, 6.5)]
    data = read_dataset(written(filmed, "e.boris", boris(events, files, lengths)))
    assert moments(data) == [
        ("match.mp4", "fall", 3.6, 5.0),
        ("second half.mp4", "fall", 0, 1.2),
        ("match.mp4", "serve", 4.0, 5.0),
        ("second half.mp4", "serve", 0, 1.5),
    ]
    early = boris([[t, "", "serve", "", ""] for t in (1, 2, 11, 12)], **{"time offset": 10})
    data = read_dataset(written(filmed, "f.boris", early))
    assert moments(data) == [("match.mp4", "serve", 1.0, 2.0)]
    assert "before its video begins" in str(data.problems[0])


def test_boris_events_without_a_time_and_lengths_that_nobody_needs(filmed):
    events = [["NaN", "", "fall", "", ""], [1, "", "serve", "", ""], [2, "", "serve", "", ""]]
    data = read_dataset(written(filmed, "g.boris", boris(events, lengths={"match.mp4": None})))
    assert moments(data) == [("match.mp4", "serve", 1.0, 2.0)]
    assert "'fall' in 'first' has no time" in str(data.problems[0])


def test_a_state_that_never_stops_is_told(filmed):
    open_ended = [3, "", "serve", "", ""]
    with pytest.raises(BadDataset, match="never stops"):
        read_dataset(written(filmed, "c.boris", boris([open_ended])))
    whole = [[t, "", "serve", "", ""] for t in (1, 2)]
    data = read_dataset(written(filmed, "c.boris", boris([*whole, open_ended])))
    assert len(data.rows) == 1
    assert "begins at 3 s and never stops" in str(data.problems[0])


EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0">
 <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
  <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/films/match.wav" MIME_TYPE="audio/x-wav"/>
  <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/films/match.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="500"/>
 </HEADER>
 <TIME_ORDER>
  <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1500"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2750"/>
  <TIME_SLOT TIME_SLOT_ID="ts3"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="4500"/>
 </TIME_ORDER>
 <TIER TIER_ID="strokes">
  <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
   <ANNOTATION_VALUE>serve &amp; volley</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts4">
   <ANNOTATION_VALUE>serve &amp; volley</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4">
   <ANNOTATION_VALUE>smash</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
 </TIER>
</ANNOTATION_DOCUMENT>"""


def test_elan_times_begin_at_the_origin_of_its_video(filmed):
    data = read_dataset(written(filmed, "a.eaf", EAF))
    assert moments(data) == [
        ("match.mp4", "serve & volley", 2.0, 3.25),
        ("match.mp4", "serve & volley", 3.25, 5.0),
    ]
    assert [str(p) for p in data.problems] == ["row 3: 'smash' has no time"]


def test_elan_files_cannot_make_the_parser_expand_anything(filmed):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><ANNOTATION_DOCUMENT>&a;</ANNOTATION_DOCUMENT>'
    with pytest.raises(BadDataset, match="entities"):
        read_dataset(written(filmed, "bomb.eaf", bomb))


def test_subtitles_are_captions_unless_their_texts_come_again(filmed):
    srt = "1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>a serve</i>\r\nfrom the left\r\n\r\n"
    srt += "2\r\n00:00:03,000 --> 00:00:04,000\r\n{\\an8}a volley\r\n"
    data = read_dataset(written(filmed, "match.srt", srt))
    assert (data.task, moments(data)[0]) == ("retrieval", ("match.mp4", "a serve from the left", 1.0, 2.5))
    assert "captions" in data.notes[0]
    vtt = "WEBVTT\n\nNOTE nothing\n\nfirst\n00:01.000 --> 00:02.000 align:start\n<v Ann>serve\n\n"
    vtt += "00:00:03.000 --> 00:00:04.000\nserve\n"
    data = read_dataset(written(filmed, "match.vtt", vtt))
    assert moments(data) == [("match.mp4", "serve", 1, 2), ("match.mp4", "serve", 3, 4)]
    assert data.task == "classification"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.boris", "{", "not as BORIS writes it"),
        ("x.boris", "[]", "not as BORIS writes it"),
        ("x.boris", '{"observations": {"a": {"events": [["x"]], "file": {"1": ["m.mp4"]}}}}', "BORIS"),
        ("x.eaf", "<a", "not as ELAN writes it"),
        ("x.eaf", "<a/>", "names no video"),
        ("x.json", '{"a": 1}', "not as Label Studio writes it"),
        ("x.json", "[1, 2]", "not as Label Studio writes it"),
        ("x.json", "[" * 100_000, "not as Label Studio writes it"),
        ("nobody.srt", "1\n00:00:01,000 --> 00:00:02,000\na\n", "no video nobody.mp4"),
        ("match.srt", "nothing", "no annotation"),
    ],
)
def test_what_is_not_what_its_name_says_is_one_clear_error(filmed, name, text, words):
    with pytest.raises(BadDataset, match=words):
        read_dataset(written(filmed, name, text))


def test_a_folder_of_annotation_files_is_one_table(filmed, tmp_path):
    for name in ("match.mp4", "second half.mp4"):
        (tmp_path / name).write_bytes((filmed / name).read_bytes())
    cue = "00:00:0{}.000 --> 00:00:0{}.000\n{}\n\n"
    (tmp_path / "match.vtt").write_text("WEBVTT\n\n" + cue.format(1, 2, "serve") + cue.format(3, 4, "serve"))
    (tmp_path / "second half.vtt").write_text("WEBVTT\n\n" + cue.format(0, 1, "fall"))
    data = read_dataset(tmp_path)
    assert data.task == "classification"
    assert [m[:2] for m in moments(data)] == [
        ("match.mp4", "serve"),
        ("match.mp4", "serve"),
        ("second half.mp4", "fall"),
    ]
    assert data.notes == ("rows 1 to 2 are those of match.vtt", "rows 3 to 3 are those of second half.vtt")


def test_labels_that_come_again_in_other_files_are_labels(filmed, tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.mp4").write_bytes((filmed / "match.mp4").read_bytes())
        (tmp_path / f"{i}.eaf").write_text(
            EAF.replace("match", str(i)).replace("serve &amp; volley", f"x{i}")
        )
    assert read_dataset(tmp_path).task == "classification"  # x0 comes twice in a file
    for i in range(3):
        (tmp_path / f"{i}.eaf").unlink()
        (tmp_path / f"{i}.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\njump\n")
    assert read_dataset(tmp_path).task == "classification"


def test_a_stray_file_does_not_hide_class_folders(filmed, tmp_path):
    for label in ("jump", "run"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.mp4").write_bytes((filmed / "match.mp4").read_bytes())
    (tmp_path / "dataset-metadata.json").write_text('{"title": "x"}')
    assert [r.text for r in read_dataset(tmp_path).rows] == ["jump", "run"]


def test_two_annotators_who_agree_are_one(filmed):
    result = {"result": [{"value": {"choices": ["serve"]}}]}
    tasks = [{"data": {"video": "match.mp4"}, "annotations": [result, result]}]
    data = read_dataset(written(filmed, "two.json", tasks))
    assert (len(data.rows), data.problems) == (1, ())


def test_cues_may_follow_each_other_without_an_empty_line(filmed):
    cue = "{}\n00:00:0{},000 --> 00:00:0{},500\na\n"
    srt = "".join(cue.format(i, i, i) for i in (1, 2, 3)) + "\n" + "7" * 200_000 + ":\n"
    data = read_dataset(written(filmed, "match.srt", srt))
    assert [m[1:] for m in moments(data)] == [("a", i, i + 0.5) for i in (1, 2, 3)]


def test_a_drive_is_no_address(filmed):
    files = ["D:/cage #2/match.mp4"]
    data = read_dataset(written(filmed, "d.boris", boris([[t, "", "serve", "", ""] for t in (1, 2)], files)))
    assert moments(data) == [("match.mp4", "serve", 1, 2)]


def test_numbers_beyond_all_bounds_are_faults(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"film")
    time = {"OTIO_SCHEMA": "RationalTime.1", "rate": 0, "value": 1}
    span = {"start_time": time, "duration": time}
    media = {"target_url": "a.mp4", "available_range": span}
    clip = {"OTIO_SCHEMA": "Clip.2", "name": "x", "media_reference": media, "source_range": span}
    (tmp_path / "cut.otio").write_text(json.dumps({"OTIO_SCHEMA": "Timeline.1", "tracks": [clip]}))
    with pytest.raises(BadDataset, match="not as OpenTimelineIO writes it"):
        read_dataset(tmp_path / "cut.otio")
    (tmp_path / "t.csv").write_text(f"path,label,start\na.mp4,b,1{'0' * 400}:00\n")
    (problem,) = read_dataset(tmp_path / "t.csv").problems
    assert "the start must be seconds" in problem.message


def test_a_video_that_is_not_there_is_the_fault_of_a_row(filmed):
    media = {"OTIO_SCHEMA": "ExternalReference.1", "target_url": "file:///films/2019/gone.mp4"}
    clip = {"OTIO_SCHEMA": "Clip.2", "name": "a goal", "media_reference": media}
    ranges = [{"start": 1, "end": 9}]
    result = [{"value": {"ranges": ranges, "timelinelabels": ["a goal"]}}]
    task = {"data": {"video": "/films/2019/gone.mp4"}, "annotations": [{"result": result}]}
    unlabelled = {"data": {"video": "/films/2019/other.mp4"}, "annotations": []}
    for name, text, gone in (
        (
            "gone.otio",
            {"OTIO_SCHEMA": "Timeline.1", "tracks": {"children": [{"children": [clip]}]}},
            "/films/2019/gone.mp4",
        ),
        ("gone.json", [task, unlabelled], "gone.mp4"),
    ):
        (problem,) = read_dataset(written(filmed, name, text)).problems
        assert problem.absent
        assert f"no file {gone}" in problem.message


def test_a_table_of_windows_names_files_with_backslashes(filmed):
    (filmed / "clips").mkdir()
    write_video(filmed / "clips" / "clip 1.mp4", frames=10, fps=10)
    data = read_dataset(
        written(filmed, "windows.csv", "path,label\r\nclips\\clip 1.mp4,a\r\nmatch.mp4,a\r\n")
    )
    assert [row.path for row in data.rows] == [filmed / "clips" / "clip 1.mp4", filmed / "match.mp4"]


def test_a_path_is_taken_as_it_stands_before_it_is_decoded(filmed):
    """Most programs write paths as they are: a name may hold what an address would stand for something."""
    for name in ("My%20clip.mp4", "Cam:1.mp4"):
        shutil.copy(filmed / "match.mp4", filmed / name)
        hits = [Hit("serve", 1, str(filmed / name), 0.0, 1.0, 0.5)]
        for suffix in (".boris", ".eaf", ".vtt", ".json", ".otio", ".csv"):
            (item,) = export(filmed / f"odd{suffix}", hits, force=True)
            data = read_dataset(Path(item.path))
            assert [row.path.name for row in data.rows] == [name], suffix
            Path(item.path).unlink()
