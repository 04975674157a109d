"""Exports of what is seldom: names that meet, that are no text, scores below zero, a camera's own count."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import opentimelineio as otio
import pytest

from clock_films import copy_with_timecode, write_clock
from conftest import write_video
from stopcli.data.table import read_dataset
from stopcli.errors import CannotWrite, FileExists, UsageError
from stopcli.output.export import check_export, export
from stopcli.results import Hit
from stopcli.video.discovery import shared_names, telling_name


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for name, rate in (("pal.mp4", Fraction(25)), ("ntsc.mp4", Fraction(30000, 1001))):
        write_video(folder / name, frames=round(8 * rate), fps=rate, size=(64, 48))
    return folder


def hit(path, start, end, query="a goal"):
    return Hit(query, 1, str(path), start, end, 0.4)


def written(path, records):
    (item,) = export(path, records)
    assert item.path == str(path)
    return path


def test_a_name_that_is_taken_is_not_made_again(films, tmp_path):
    """Cameras count from 1 again on each card: the folder tells films apart, or else a number does."""
    for name in ("a/day", "b/day", "c"):
        (tmp_path / name).mkdir(parents=True)
    twin = shutil.copy(films / "pal.mp4", tmp_path / "a" / "day" / "pal.mp4")
    second = shutil.copy(films / "pal.mp4", tmp_path / "b" / "day" / "PAL.mp4")
    third = shutil.copy(films / "pal.mp4", tmp_path / "c" / "pal.mp4")
    other = shutil.copy(films / "pal.mp4", tmp_path / "c" / "alone.mp4")
    hits = [hit(twin, 0, 2), hit(second, 2, 4), hit(third, 4, 6), hit(other, 6, 8)]
    items = list(export(tmp_path / "hits.srt", hits, force=True))
    made = [Path(w.path) for w in items]
    names = ["hits_a_day_pal.srt", "hits_b_day_PAL.srt", "hits_c_pal.srt", "hits_alone.srt"]
    assert [p.name for p in made] == names
    assert items[2].description == f"1 moment of {third}"
    two = list(export(tmp_path / "hits.srt", hits[2:], force=True, videos=[twin, third, other]))
    assert [Path(w.path).name for w in two] == names[2:]
    assert [f"00:00:0{t},000 -->" in p.read_text() for p, t in zip(made, (0, 2, 4, 6), strict=True)] == [
        True
    ] * 4


def test_no_video_that_was_looked_at_is_replaced(films, tmp_path):
    for name in ("dog.mp4", "owl.mp4", "out_dog.mp4"):
        shutil.copy(films / "pal.mp4", tmp_path / name)
    before = (tmp_path / "out_dog.mp4").read_bytes()
    videos = [tmp_path / name for name in ("dog.mp4", "owl.mp4", "out_dog.mp4")]
    hits = [hit(video, 0, 2) for video in videos[:2]]
    with pytest.raises(UsageError, match=r"out_dog\.mp4: is one of the videos"):
        check_export(tmp_path / "out.mp4", force=True, videos=videos, each=True)
    with pytest.raises(UsageError, match=r"out_dog\.mp4: is one of the videos"):
        list(export(tmp_path / "out.mp4", hits, force=True, videos=videos))
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("owl.mp4", "link/owl.mp4"):
        with pytest.raises(UsageError, match=r"owl\.mp4: is one of the videos"):
            check_export(tmp_path / name, force=True, videos=videos)
    (tmp_path / "other").symlink_to(tmp_path / "owl.mp4")  # a video of another name
    with pytest.raises(UsageError, match=r"owl\.mp4: is one of the videos"):
        check_export(tmp_path / "owl.mp4", force=True, videos=[tmp_path / "other"])
    (tmp_path / "owl.mp4").write_bytes(b"damaged")  # then only one has moments
    with pytest.raises(UsageError, match=r"owl\.mp4: is one of the videos"):
        list(export(tmp_path / "owl.mp4", hits, force=True, videos=videos))
    assert (tmp_path / "owl.mp4").read_bytes() == b"damaged"
    assert (tmp_path / "out_dog.mp4").read_bytes() == before
    (tmp_path / "m_owl.srt").write_text("mine")
    with pytest.raises(FileExists):
        check_export(tmp_path / "m.srt", force=False, videos=videos, each=True)
    check_export(tmp_path / "m.srt", force=False, videos=videos)


def test_as_many_folders_as_tell_films_apart_are_in_their_names():
    """A camera trap's tree: a site, a day, and names that each camera gives."""
    films = [f"/t/{site}/{day}/IMG_1.mp4" for site in ("creek", "ridge") for day in ("05-03", "05-04")]
    shared = shared_names([*films, "/t/creek/05-03/IMG_2.mp4", "/a/x.mp4", "/a/x.mov"])
    assert [telling_name(Path(film), shared) for film in films] == [
        "creek_05-03_IMG_1", "creek_05-04_IMG_1", "ridge_05-03_IMG_1", "ridge_05-04_IMG_1",
    ]  # fmt: skip
    assert telling_name(Path("/t/creek/05-03/IMG_2.mp4"), shared) == "IMG_2"
    assert telling_name(Path("/a/x.mov"), shared) == "a_x"  # a number tells these two apart
    assert telling_name(Path("/x.mp4"), shared_names(["/x.mp4", "/b/x.mp4"])) == "x"


def test_a_folder_that_a_link_leads_to_is_the_folder(films, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far" / "away")
    for suffix in (".csv", ".boris", ".eaf", ".json"):
        written(tmp_path / "near" / f"m{suffix}", [hit(films / "pal.mp4", 0, 2)])
        assert not read_dataset(tmp_path / "far" / "away" / f"m{suffix}").problems


def test_moments_that_overlap_are_all_in_the_chapters(films, tmp_path):
    found = [
        hit(films / "pal.mp4", 0, 4, "a dog"),
        hit(films / "pal.mp4", 0, 2, "it runs"),
        hit(films / "pal.mp4", 3, 5, "an owl"),
    ]
    with av.open(str(written(tmp_path / "cues.mp4", found))) as film:
        chapters = [(c["start"] * c["time_base"], c["metadata"].get("title")) for c in film.chapters()]
    assert [(float(start), title) for start, title in chapters if title] == [
        (0.0, "a dog / it runs"), (2.0, "a dog"), (3.0, "a dog / an owl"), (4.0, "an owl"),
    ]  # fmt: skip
    again = list(export(tmp_path / "more.mkv", [hit(tmp_path / "cues.mp4", 1, 2)]))
    assert "5 chapters of its own" in again[0].description


def test_a_name_that_is_no_text_loses_no_timeline(films, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4"))
    shutil.copy(films / "pal.mp4", odd)
    for suffix in (".otio", ".xml", ".fcpxml", ".edl"):
        written(tmp_path / f"m{suffix}", [hit(odd, 0, 2), hit(films / "pal.mp4", 2, 4)])


def test_a_score_below_zero_is_a_number(films, tmp_path):
    low = replace(hit(films / "pal.mp4", 0, 2, query="-1+2"), score=-0.01)
    (row,) = csv.DictReader(written(tmp_path / "hits.csv", [low]).read_text().splitlines())
    assert (row["label"], row["score"]) == ("'-1+2", "-0.0100")  # a text that is no formula, a number


@pytest.mark.parametrize("name", ["@home.mp4", "PM\u202f1.mp4", "-x.mp4", "plain.mp4"])
def test_a_csv_that_was_exported_is_read_back_as_it_was(films, tmp_path, name):
    film = tmp_path / name
    shutil.copy(films / "pal.mp4", film)
    labels = ("+1 point", "@home", "'quoted'", "=2")
    hits = [hit(film, 2 * i, 2 * i + 2, query=label) for i, label in enumerate(labels)]
    hits[1] = replace(hits[1], confidence=0.95)
    data = read_dataset(written(tmp_path / "hits.csv", hits))
    with (tmp_path / "hits.csv").open(newline="") as stream:
        assert [row["confidence"] for row in csv.DictReader(stream)] == ["", "0.9500", "", ""]
    data.require_sound("never said")
    assert not data.notes
    assert [row.text for row in data.rows] == list(labels)
    assert {row.path.resolve() for row in data.rows} == {film.resolve()}


def test_an_edl_counts_as_the_camera_did(films, tmp_path):
    """At 29.97 pictures a second a camera may count without dropping numbers, where a timeline drops them."""
    film = tmp_path / "ndf.mov"
    copy_with_timecode(films / "ntsc.mp4", film, "01:00:00:00")
    text = written(tmp_path / "hits.edl", [hit(film, 2, 4)]).read_text()
    assert "C        01:00:02:00 01:00:04:00 01:00:00;00 01:00:02;00" in text


@pytest.mark.parametrize("code", ["10:00:00:00", "10:00:00;00"])
def test_a_cameras_hours_are_the_same_on_a_timeline_of_another_rate(films, tmp_path, code):
    """Frames are counted at the timeline's rate from the camera's clock on, not from midnight on."""
    film = copy_with_timecode(films / "ntsc.mp4", tmp_path / "coded.mov", code)
    records = [hit(films / "pal.mp4", 0, 2), hit(films / "pal.mp4", 3, 4), hit(film, 2, 4)]
    text = written(tmp_path / "hits.edl", [replace(r, rank=i) for i, r in enumerate(records, 1)]).read_text()
    assert "FCM: NON-DROP FRAME" in text
    assert "C        10:00:02:00 10:00:04:00 " in text


def test_a_name_that_is_no_text_has_an_eaf(films, tmp_path):
    film = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(films / "pal.mp4", film)
    text = written(tmp_path / "hits.eaf", [hit(film, 0, 2)]).read_text()
    assert 'RELATIVE_MEDIA_URL="./caf%E9.mp4"' in text


def spans_of(timeline, kind):
    """Return where in its file each clip begins and how long it is (seconds), by kind of track."""
    tracks = [t for t in timeline.tracks if t.kind == kind]
    ranges = [c.source_range for track in tracks for c in track.find_clips()]
    return [(r.start_time.to_seconds(), r.duration.to_seconds()) for r in ranges]


@pytest.mark.parametrize("suffix", [".otio", ".xml", ".edl"])
def test_a_timeline_has_the_sound_of_its_clips(films, tmp_path, suffix):
    loud = write_clock(tmp_path / "loud.mp4", seconds=8)
    records = [
        hit(loud, 2, 4),
        replace(hit(films / "pal.mp4", 0, 2), rank=2),
        replace(hit(loud, 5, 6), rank=3),
    ]
    read = otio.adapters.read_from_file(str(written(tmp_path / f"hits{suffix}", records)))
    timeline = read if isinstance(read, otio.schema.Timeline) else next(iter(read))
    assert spans_of(timeline, "Video") == [(2, 2), (0, 2), (5, 1)]
    heard = spans_of(timeline, "Audio")
    assert set(heard) == {(2, 2), (5, 1)}
    beginnings = next(t for t in timeline.tracks if t.kind == "Audio").range_of_all_children().items()
    at = sorted(r.start_time.to_seconds() for c, r in beginnings if isinstance(c, otio.schema.Clip))
    assert at == [0, 4]


@pytest.mark.parametrize("suffix", [".otio", ".edl"])
@pytest.mark.parametrize(
    ("rate", "standard"), [(120, 60), (Fraction(120000, 1001), Fraction(60000, 1001)), (240, 60)]
)
def test_a_timeline_of_slow_motion_has_a_rate_that_editors_know(tmp_path, suffix, rate, standard):
    film = write_video(
        tmp_path / "fast.mp4", frames=round(3 * rate), fps=rate, size=(64, 48), options={"g": "60"}
    )
    path = written(tmp_path / f"hits{suffix}", [hit(film, 1, 2)])
    options = {"rate": float(standard)} if suffix == ".edl" else {}
    timeline = otio.adapters.read_from_file(str(path), **options)
    timeline = timeline if isinstance(timeline, otio.schema.Timeline) else next(iter(timeline))
    assert timeline.global_start_time is None or timeline.global_start_time.rate == float(standard)
    ((start, length),) = spans_of(timeline, "Video")
    assert (start, length) == pytest.approx((1, 1), abs=0.02)


def test_premiere_counts_markers_from_the_media_and_reads_drop_frame(films, tmp_path):
    film = copy_with_timecode(films / "ntsc.mp4", tmp_path / "coded.mp4", "10:00:00;00")
    root = ElementTree.parse(written(tmp_path / "hits.xml", [hit(film, 2, 4)])).getroot()
    (marker,) = root.iter("marker")
    assert [marker.findtext(name) for name in ("in", "out")] == ["60", "60"]
    codes = {(t.findtext("string"), t.findtext("displayformat")) for t in root.iter("timecode")}
    assert codes == {("01:00:00;00", "DF"), ("10:00:00;00", "DF")}
    read = otio.adapters.read_from_file(str(written(tmp_path / "hits.otio", [hit(film, 2, 4)])))
    (clip,) = read.video_tracks()[0]
    assert clip.markers[0].marked_range.start_time == clip.source_range.start_time


def test_moments_of_one_label_that_share_time_are_one_where_programs_know_no_others(films, tmp_path):
    film = films / "pal.mp4"
    found = [hit(film, *span, "serve") for span in ((0, 5), (2, 3), (4, 6), (6, 7))] + [
        hit(film, 1, 2, "volley")
    ]
    project = json.loads(written(tmp_path / "a.boris", found).read_text())
    (observation,) = project["observations"].values()
    assert [(e[0], e[2]) for e in observation["events"]] == [
        (0, "serve"), (1, "volley"), (2, "volley"), (6, "serve"), (6, "serve"), (7, "serve"),
    ]  # fmt: skip
    for suffix in (".boris", ".eaf"):
        data = read_dataset(written(tmp_path / f"b{suffix}", found))
        assert sorted((r.text, r.start, r.end) for r in data.rows) == [
            ("serve", 0.0, 6.0), ("serve", 6.0, 7.0), ("volley", 1.0, 2.0),
        ]  # fmt: skip


def test_odd_names_take_no_other_video_with_them(films, tmp_path):
    long, odd = tmp_path / f"{'x' * 240}.mp4", tmp_path / "a\x1bb.mp4"
    for film in (long, odd):
        shutil.copy(films / "pal.mp4", film)
    found = [hit(film, 0, 2, "a\x1bgoal") for film in (long, odd, films / "ntsc.mp4")]
    made = list(export(tmp_path / "hits.srt", found))
    assert [Path(item.path).exists() for item in made] == [True] * 3
    chapters = [tmp_path / f"{'第' * 40}{i}話.mp4" for i in (1, 2)]
    for film in chapters:
        shutil.copy(films / "pal.mp4", film)
    made = list(export(tmp_path / "cues.srt", [hit(film, 0, 2) for film in chapters]))
    assert [Path(item.path).stem for item in made] == [f"cues_{film.stem}" for film in chapters]
    read = otio.adapters.read_from_file(str(written(tmp_path / "hits.xml", found)))
    assert len(read.video_tracks()[0]) == 3


@pytest.mark.parametrize("rate", [12, Fraction(28), Fraction(25)])
def test_no_clip_is_longer_than_what_its_video_has_left(films, tmp_path, rate):
    film = write_video(tmp_path / "odd.mp4", frames=29, fps=rate, size=(64, 48))
    hits = [hit(film, 0, 29 / float(rate)), hit(films / "ntsc.mp4", 1, 8), hit(films / "ntsc.mp4", 0, 2)]
    root = ElementTree.parse(written(tmp_path / "hits.fcpxml", hits)).getroot()

    def seconds(element, name):
        return Fraction(element.get(name).removesuffix("s"))

    assets = {a.get("id"): a for a in root.iter("asset")}
    for clip in root.iter("asset-clip"):
        asset = assets[clip.get("ref")]
        end = seconds(asset, "start") + seconds(asset, "duration")
        assert seconds(clip, "start") + seconds(clip, "duration") <= end


def test_a_rate_that_premiere_does_not_know_leaves_one_video_out(films, tmp_path):
    film = write_video(tmp_path / "odd.mp4", frames=84, fps=28, size=(64, 48))
    items = list(export(tmp_path / "hits.xml", [hit(film, 0, 2), hit(films / "pal.mp4", 1, 3)]))
    assert [type(item).__name__ for item in items] == ["Failure", "Written"]
    assert "28 frames a second are no rate of .xml" in items[0].message
    assert len(list(ElementTree.parse(tmp_path / "hits.xml").getroot().iter("clipitem"))) == 1


@pytest.mark.parametrize("suffix", [".otio", ".xml", ".edl"])
@pytest.mark.skipif(os.name == "nt", reason="no such limit")
def test_a_timeline_that_does_not_fit_is_not_there(films, tmp_path, suffix):
    """As on a full disk: OpenTimelineIO's own writing keeps such a fault to itself."""
    import resource
    import signal

    records = [replace(hit(films / "pal.mp4", i % 7, i % 7 + 1), rank=i) for i in range(1, 60)]
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        with pytest.raises(CannotWrite):
            list(export(tmp_path / f"hits{suffix}", records))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
