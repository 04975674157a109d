"""Moments in other programs' files, read back by readers that are not ours, to the frame."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import av
import opentimelineio as otio
import pympi
import pytest
import srt
import webvtt

from conftest import pattern, write_video
from stopcli.data.table import read_dataset
from stopcli.errors import FileExists, UsageError
from stopcli.output.export import SUFFIXES, check_export, export
from stopcli.output.export.marks import Media, marks_of, nudged
from stopcli.results import Classification, Failure, Hit, Score
from stopcli.video.container import Facts
from stopcli.video.workers.pool import read_facts

NTSC = Fraction(30000, 1001)
RATES = {"pal.mp4": Fraction(25), "ntsc.mp4": NTSC, "fast.mp4": Fraction(60000, 1001)}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for name, rate in RATES.items():
        write_video(folder / name, frames=round(8 * rate), fps=rate, size=(64, 48))
    return folder


def hit(path, start, end, query="a goal", rank=1):
    return Hit(query, rank, str(path), start, end, 0.4)


def window(path, start, label):
    return Classification(str(path), start, start + 2.0, (Score(label, 0.9, 0.3), Score("other", 0.1, 0.1)))


def written(path, records):
    (item,) = export(path, records)
    assert item.path == str(path)
    return path


def frames_of(records):
    """The right answer: (file's name, text, first frame, end frame), by the arithmetic of whole windows."""
    out = []
    for mark in marks_of(records):
        rate = RATES[Path(mark.path).name]
        out.append(
            (
                Path(mark.path).name,
                mark.text,
                round(mark.start * rate),
                min(round(mark.end * rate), round(8 * rate)),
            )
        )
    return out


def name_in(url):
    return Path(unquote(urlsplit(url).path)).name


def hits_in(films, name="ntsc.mp4"):
    return [hit(films / name, 4.0, 6.0), hit(films / name, 0.0, 2.0, rank=2)]


def labels_in(films, name="ntsc.mp4"):
    return [
        window(films / name, t, label)
        for t, label in ((0.0, "serve"), (2.0, "serve"), (4.0, "volley"), (6.0, "serve"))
    ]


def every_hit(films):
    return [hit(films / n, 2.0, 4.0, rank=i) for i, n in enumerate(RATES, 1)]


@pytest.mark.parametrize("suffix", [".otio", ".xml"])
@pytest.mark.parametrize("name", list(RATES))
def test_otio_reads_the_clips_of_hits(films, tmp_path, suffix, name):
    records = hits_in(films, name)
    read = otio.adapters.read_from_file(str(written(tmp_path / f"hits{suffix}", records)))
    timeline = read if isinstance(read, otio.schema.Timeline) else next(iter(read))
    found = []
    for clip in timeline.find_clips():
        span = clip.source_range
        end = span.start_time.value + span.duration.value
        found.append((name_in(clip.media_reference.target_url), clip.name, span.start_time.value, end))
        assert [m.name for m in clip.markers] == ["a goal"]
    assert found == frames_of(records)
    rate = round(RATES[name])
    assert timeline.global_start_time.value == (
        3600 * rate if name == "pal.mp4" else 3600 * rate - rate // 30 * 108
    )


@pytest.mark.parametrize("suffix", [".otio", ".xml"])
def test_otio_reads_the_labels_of_windows_as_markers(films, tmp_path, suffix):
    records = labels_in(films)
    read = otio.adapters.read_from_file(str(written(tmp_path / f"labels{suffix}", records)))
    timeline = read if isinstance(read, otio.schema.Timeline) else next(iter(read))
    (clip,) = timeline.find_clips()
    spans = [(m.name, m.marked_range) for m in clip.markers]
    found = [("ntsc.mp4", n, s.start_time.value, s.start_time.value + s.duration.value) for n, s in spans]
    assert found == frames_of(records)


@pytest.mark.parametrize("name", ["pal.mp4", "ntsc.mp4"])
def test_an_edl_reads_back_with_its_timecode_and_locators(films, tmp_path, name):
    records = hits_in(films, name)
    path = written(tmp_path / "hits.edl", records)
    text, mark = path.read_text(), ":" if name == "pal.mp4" else ";"
    assert f"FCM: {'NON-' if mark == ':' else ''}DROP FRAME" in text
    times = ["00:00:04:00", "00:00:06:00", "01:00:00:00", "01:00:02:00"]
    assert f"001  AX       V     C        {' '.join(t[:8] + mark + t[9:] for t in times)}" in text
    assert f"* LOC: 01:00:02{mark}00 RED     a goal" in text
    timeline = otio.adapters.read_from_file(str(path), rate=float(RATES[name]))
    found = []
    for clip in timeline.find_clips():
        span = clip.source_range
        found.append(
            (clip.name, "a goal", span.start_time.value, span.start_time.value + span.duration.value)
        )
        if mark == ":":  # this reader takes no other locators
            assert [m.name for m in clip.markers] == ["a goal"]
    assert found == frames_of(records)


def test_an_edl_of_windows_has_a_locator_where_each_label_begins(films, tmp_path):
    text = written(tmp_path / "labels.edl", labels_in(films, "pal.mp4")).read_text()
    assert [line for line in text.splitlines() if "LOC" in line] == [
        "* LOC: 01:00:00:00 RED     serve",
        "* LOC: 01:00:04:00 GREEN   volley",
        "* LOC: 01:00:06:00 RED     serve",
    ]


def test_fcpxml_reads_back_through_otio(films, tmp_path):
    records = hits_in(films, "pal.mp4")
    read = otio.adapters.read_from_file(str(written(tmp_path / "hits.fcpxml", records)))
    found = []
    for clip in read.find_clips() if hasattr(read, "find_clips") else next(iter(read)).find_clips():
        span = clip.source_range
        found.append((span.start_time.value, span.start_time.value + span.duration.value))
    assert found == [f[2:] for f in frames_of(records)]


@pytest.mark.parametrize("name", list(RATES))
def test_fcpxml_counts_whole_frames(films, tmp_path, name):
    records = hits_in(films, name)
    root = ElementTree.parse(written(tmp_path / "hits.fcpxml", records)).getroot()

    def seconds(text):
        return Fraction(text.removesuffix("s"))

    rate = RATES[name]
    assert seconds(root.find(".//format").get("frameDuration")) == 1 / rate
    sequence = root.find(".//sequence")
    assert sequence.get("tcFormat") == ("NDF" if name == "pal.mp4" else "DF")
    sources = {a.get("id"): name_in(a.find("media-rep").get("src")) for a in root.iter("asset")}
    found, at = [], seconds(sequence.get("tcStart"))
    for clip in root.iter("asset-clip"):
        start, length = seconds(clip.get("start")) * rate, seconds(clip.get("duration")) * rate
        assert seconds(clip.get("offset")) == at
        at += length / rate
        found.append((sources[clip.get("ref")], clip.get("name"), start, start + length))
        assert clip.find("marker").get("value") == "a goal"
    assert found == frames_of(records)


def test_subtitle_readers_find_the_cues(films, tmp_path):
    records = labels_in(films)
    want = [(m.start, m.end, m.text) for m in marks_of(records)]
    cues = srt.parse(written(tmp_path / "a.srt", records).read_text())
    assert [(c.start.total_seconds(), c.end.total_seconds(), c.content) for c in cues] == want
    captions = webvtt.read(str(written(tmp_path / "a.vtt", records)))
    assert [(c.start_in_seconds, c.end_in_seconds, c.text) for c in captions] == [
        (int(a), int(b), t) for a, b, t in want
    ]


def test_pympi_reads_the_tiers(films, tmp_path):
    records = [*hits_in(films), hit(films / "ntsc.mp4", 5.0, 7.0, "a foul")]
    eaf = pympi.Elan.Eaf(str(written(tmp_path / "a.eaf", records)))
    assert list(eaf.get_tier_names()) == ["a goal", "a foul"]
    assert sorted(eaf.get_annotation_data_for_tier("a goal")) == [(0, 2000, "a goal"), (4000, 6000, "a goal")]
    assert eaf.get_annotation_data_for_tier("a foul") == [(5000, 7000, "a foul")]
    assert [name_in(m["MEDIA_URL"]) for m in eaf.get_linked_files()] == ["ntsc.mp4"]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_ffprobe_reads_the_chapters_of_a_copy(films, tmp_path, suffix):
    records = hits_in(films)
    path = written(tmp_path / f"a{suffix}", records)
    said = subprocess.run(
        ["ffprobe", "-v", "error", "-show_chapters", "-show_streams", "-of", "json", path],
        capture_output=True,
        check=True,
    )
    read = json.loads(said.stdout)
    chapters = [
        (float(c["start_time"]), float(c["end_time"]), c.get("tags", {}).get("title", ""))
        for c in read["chapters"]
    ]
    named = [c for c in chapters if c[2]]
    assert named == [(0.0, 2.0, "a goal"), (4.0, 6.0, "a goal")]
    assert chapters[1][:2] == (2.0, 4.0)
    assert read_facts(path).duration == pytest.approx(read_facts(films / "ntsc.mp4").duration, abs=0.05)


def test_a_boris_project_has_an_observation_a_video(films, tmp_path):
    project = json.loads(written(tmp_path / "a.boris", every_hit(films)).read_text())
    assert project["project_format_version"] == "7.0"
    assert {b["code"]: b["type"] for b in project["behaviors_conf"].values()} == {"a goal": "State event"}
    for name, observation in project["observations"].items():
        assert observation["type"] == "MEDIA"
        assert observation["file"]["1"] == [name]
        assert [e[:3] for e in observation["events"]] == [[2.0, "", "a goal"], [4.0, "", "a goal"]]
        assert observation["media_info"]["fps"][name] == pytest.approx(float(RATES[Path(name).name]))


@pytest.mark.parametrize("suffix", [".csv", ".json", ".boris", ".otio"])
def test_what_is_exported_is_a_data_set_to_the_frame(films, tmp_path, suffix):
    records = [r for name in RATES for r in labels_in(films, name)]
    dataset = read_dataset(written(tmp_path / f"labels{suffix}", records))
    assert (dataset.task, dataset.problems) == ("classification", ())
    found = {
        (r.path.name, r.text, *(round(t * RATES[r.path.name]) for t in (r.start, r.end)))
        for r in dataset.rows
    }
    assert found == set(frames_of(records))
    assert all(r.path.resolve() == (films / r.path.name).resolve() for r in dataset.rows)


@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".eaf"])
def test_what_is_exported_of_one_video_is_a_data_set(films, tmp_path, suffix):
    place = films if suffix == ".srt" else tmp_path  # subtitles name no video: theirs has the same name
    records = labels_in(films)
    dataset = read_dataset(written(place / f"ntsc{suffix}", records))
    assert (dataset.task, dataset.problems) == ("classification", ())
    assert [(r.start, r.end, r.text) for r in dataset.rows] == [
        (m.start, m.end, m.text) for m in marks_of(records)
    ]


def test_a_format_of_one_video_gets_a_file_for_each(films, tmp_path):
    made = list(export(tmp_path / "hits.srt", every_hit(films)))
    assert [Path(w.path).name for w in made] == ["hits_pal.srt", "hits_ntsc.srt", "hits_fast.srt"]
    (tmp_path / "hits_pal.srt").write_text("mine")
    again = list(export(tmp_path / "hits.srt", every_hit(films)))
    assert [type(w).__name__ for w in again] == ["Failure", "Failure", "Failure"]
    assert (tmp_path / "hits_pal.srt").read_text() == "mine"


def test_videos_of_one_name_get_a_file_each(films, tmp_path):
    (tmp_path / "other").mkdir()
    twin = shutil.copy(films / "pal.mp4", tmp_path / "other" / "pal.mp4")
    made = list(export(tmp_path / "hits.srt", [hit(films / "pal.mp4", 0, 2), hit(twin, 4, 6)]))
    assert [Path(w.path).name for w in made] == [f"hits_{films.name}_pal.srt", "hits_other_pal.srt"]
    assert "00:00:04,000" in (tmp_path / "hits_other_pal.srt").read_text()


def test_videos_of_several_rates_share_a_timeline(films, tmp_path):
    root = ElementTree.parse(written(tmp_path / "a.fcpxml", every_hit(films))).getroot()
    assert len(root.findall(".//format")) == 3
    assert [c.get("ref") for c in root.iter("asset-clip")] == [a.get("id") for a in root.iter("asset")]


def test_hostile_texts_stay_texts(films, tmp_path):
    evil = '=1+1 </x> --> "a"\n\x1b[31m\x00'
    records = [hit(films / "pal.mp4", 0.0, 2.0, evil), hit(films / "pal.mp4", 2.0, 4.0, evil, 2)]
    for suffix in (".fcpxml", ".eaf"):
        ElementTree.parse(written(tmp_path / f"a{suffix}", records))
    edl = written(tmp_path / "a.edl", records).read_text()
    assert all(line == "" or line[:1] in "TF*0" for line in edl.splitlines())
    assert "\x1b" not in edl
    cells = written(tmp_path / "a.csv", records).read_text().splitlines()[1]
    assert "'=1+1" in cells
    vtt = written(tmp_path / "a.vtt", records).read_text()
    assert vtt.count("-->") == 2
    assert "</x>" not in vtt


def test_a_video_that_went_away_is_a_failure_and_the_rest_is_written(films, tmp_path):
    made = list(export(tmp_path / "a.csv", [*hits_in(films), hit(tmp_path / "gone.mp4", 0.0, 1.0)]))
    assert [type(m) for m in made] == [Failure, type(made[1])]
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


def test_what_cannot_be_written_is_said_before_any_work(films, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"\.otio"):
        check_export(tmp_path / "a.txt", force=False)
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(FileExists):
        check_export(tmp_path / "a.csv", force=False)
    with pytest.raises(UsageError, match="no moments"):
        list(export(tmp_path / "b.csv", [Hit("a", 1, "x.mp4", None, None, 0.5)]))
    monkeypatch.setattr("stopcli.output.export.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="stopcli\\[editors\\]"):
        check_export(tmp_path / "a.otio", force=False)
    assert ".edl" in SUFFIXES


def test_the_video_itself_is_never_replaced(films, tmp_path):
    film = shutil.copy(films / "pal.mp4", tmp_path / "pal.mp4")
    before = film.read_bytes()
    with pytest.raises(UsageError, match="itself"):
        list(export(film, [hit(film, 0.0, 2.0)], force=True))
    assert film.read_bytes() == before


def test_markers_never_share_a_frame():
    assert nudged([0, 0, 5, 5, 5, 6]) == [0, 1, 5, 6, 7, 8]


def test_frames_are_counted_from_the_first_picture_and_the_cameras_own_timecode():
    late = Media("a.mov", Facts(10.0, 25.0, 0.5, 64, 48, True, "10:00:00:00"))
    assert (late.frame(0.5), late.frame(1.5), late.first) == (0, 25, 900_000)
    assert Media("a.mp4", Facts(10.0, 29.97)).rate == NTSC
    assert Media("a.mp4", Facts(10.0, 29.8333)).rate == Fraction(29.8333).limit_denominator(1001)


def test_fcpxml_says_how_large_pictures_are_when_they_are_shown(tmp_path):
    with av.open(str(tmp_path / "phone.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90)
        for i in range(30):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pattern(i, 64, 48), format="rgb24")))
        out.mux(stream.encode())
    film = hit(tmp_path / "phone.mp4", 0.0, 0.5)
    shape = ElementTree.parse(written(tmp_path / "a.fcpxml", [film])).getroot().find(".//format").attrib
    assert [shape[k] for k in ("width", "height", "paspH", "paspV")] == ["48", "64", "3", "4"]
