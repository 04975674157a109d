"""Label Studio's exports: seconds by its own clock, whatever the film counts."""

from __future__ import annotations

import pytest
from annotated import moments, write_films, written

from conftest import write_video
from stopcli.data.table import read_dataset


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("filmed"))


def task(video, *values, **data):
    results = [{"type": "x", "value": v} for v in values]
    return {"id": 1, "data": {"video": video, **data}, "annotations": [{"result": results}]}


def test_label_studio_choices_timelines_and_seconds(filmed):
    tasks = [
        task("/data/upload/3/0a1b2c3d-match.mp4", {"choices": ["serve"]}),
        task("/data/local-files/?d=films/match.mp4", {"ranges": [{"start": 11, "end": 20}], "timelinelabels": ["serve"]}),
        task("https://host/second%20half.mp4", {"start": 0.5, "end": 1.25, "labels": ["fall"]}),
        task("match.mp4", {"sequence": [{"time": 3.0}, {"time": 4.5}], "labels": ["fall"]}),
        {"data": {"video": "match.mp4"}, "annotations": [{"was_cancelled": True, "result": [{"value": {"choices": ["no"]}}]}]},
        {"data": {"text": "no film"}, "annotations": []},
    ]  # fmt: skip
    data = read_dataset(written(filmed, "studio.json", tasks))
    assert moments(data) == [
        ("match.mp4", "serve", 0, 0),
        ("match.mp4", "serve", 0.417, 0.833),
        ("second half.mp4", "fall", 0.5, 1.25),
        ("match.mp4", "fall", 3.0, 4.5),
    ]
    assert "counted at 24 a second" in data.notes[0]
    assert "names no video" in str(data.problems[0])


@pytest.mark.parametrize(
    ("data", "more", "second"),
    [
        ({}, (), 24),  # what it counts where its Video tag says nothing, whatever the video
        ({"fps": 30}, (), 30),  # from where the tag can take it
        ({"frame_rate": "12.5"}, (), 12.5),
        ({"fps": 30}, ({"sequence": [], "framesCount": 100, "duration": 5.0, "labels": []},), 20),
        ({}, ({"ranges": [{"start": 1, "end": 40}], "timelinelabels": ["late"]},), 24),
    ],
)
def test_label_studio_counts_frames_at_a_rate_of_its_own(filmed, data, more, second):
    """Not at the video's, which is 10 a second here."""
    timeline = {"ranges": [{"start": 11, "end": 20}], "timelinelabels": ["serve"]}
    read = read_dataset(written(filmed, "rates.json", [task("match.mp4", timeline, *more, **data)]))
    assert moments(read)[0] == ("match.mp4", "serve", round(10 / second, 3), round(20 / second, 3))
    assert any("24 a second" in note for note in read.notes) == (not data)


def test_label_studio_counted_at_the_videos_rate_where_its_own_leads_beyond_the_end(tmp_path):
    write_video(tmp_path / "fast.mp4", frames=150, fps=50)
    timeline = {"ranges": [{"start": 101, "end": 150}], "timelinelabels": ["serve"]}
    read = read_dataset(written(tmp_path, "fast.json", [task("fast.mp4", timeline)]))
    assert moments(read) == [("fast.mp4", "serve", 2.0, 3.0)]
    assert "at each video's own rate" in read.notes[0]


def test_label_studio_has_one_clock_for_all_of_an_export(tmp_path):
    """A film's last frame was beyond its end at 24 a second; of the other film, nothing told it."""
    for name, frames in (("a.mp4", 90), ("b.mp4", 90)):
        write_video(tmp_path / name, frames=frames, fps=30)
    spans = {"a.mp4": (61, 90), "b.mp4": (31, 60)}
    tasks = [
        task(name, {"ranges": [{"start": first, "end": last}], "timelinelabels": ["serve"]})
        for name, (first, last) in spans.items()
    ]
    read = read_dataset(written(tmp_path, "one.json", tasks))
    assert moments(read) == [("a.mp4", "serve", 2.0, 3.0), ("b.mp4", "serve", 1.0, 2.0)]
    assert len([note for note in read.notes if "counted" in note]) == 1


def test_label_studio_in_its_short_form_may_tell_a_rate(filmed):
    rated = {
        "video": "match.mp4",
        "fps": "20",
        "label": [{"ranges": [{"start": 21, "end": 40}], "timelinelabels": ["serve"]}],
    }
    read = read_dataset(
        written(filmed, "rated.json", [rated, {"video": "second half.mp4", "fps": "20", "label": "serve"}])
    )
    assert moments(read) == [("match.mp4", "serve", 1.0, 2.0), ("second half.mp4", "serve", 0, 0)]


def test_label_studio_choices_of_a_region_have_its_seconds(filmed):
    """They were labels of the whole film."""
    values = [{"start": 1.0, "end": 2.0, "choices": ["jump"]}, {"choices": ["good light"]}]
    values += [{"ranges": [{"start": 25, "end": 48}], "choices": ["run"]}]
    read = read_dataset(written(filmed, "region.json", [task("match.mp4", *values)]))
    assert moments(read) == [
        ("match.mp4", "jump", 1.0, 2.0),
        ("match.mp4", "good light", 0, 0),
        ("match.mp4", "run", 1.0, 2.0),
    ]


def test_label_studio_boxes_last_until_they_are_switched_off_or_the_film_ends(filmed):
    def box(*keys):
        return {"sequence": [{"time": t, "enabled": on} for t, on in keys], "labels": ["fall"]}

    values = [box((0.5, True), (1.0, True), (2.0, False), (3.0, True)), box((4.0, True)), box((1.5, False))]
    read = read_dataset(written(filmed, "boxes.json", [task("match.mp4", *values)]))
    ends = [(a, b) for _, _, a, b in moments(read)]
    assert ends == [(0.5, 2.0), (3.0, 5.0), (4.0, 5.0), (1.5, pytest.approx(1.5 + 1 / 24, abs=1e-3))]


def test_label_studio_in_its_short_form(filmed):
    tasks = [
        {"video": "match.mp4", "label": "serve", "id": 4, "created_at": "2024-03-09T21:52:49"},
        {"video": "second half.mp4", "label": [{"start": 1, "end": 2, "labels": ["serve"]}]},
    ]
    data = read_dataset(written(filmed, "min.json", tasks))
    assert moments(data) == [("match.mp4", "serve", 0, 0), ("second half.mp4", "serve", 1, 2)]
