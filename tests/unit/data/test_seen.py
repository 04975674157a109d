"""What a model was trained on is known by content and by time."""

from __future__ import annotations

import pytest

from stopcli.data.seen import SEEN_FILE, read_seen, write_seen
from stopcli.errors import CheckpointError
from stopcli.fileio import content_key


@pytest.fixture
def films(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(name.encode() * 999)
    return tmp_path


def test_any_part_of_a_clip_counts_whatever_the_file_is_called(films):
    write_seen(films, [(films / "a.mp4", 2.0, 5.5), (films / "a.mp4", 9.0, None)])
    (films / "a.mp4").rename(films / "c.mp4")
    seen = read_seen(films)
    overlaps = {(0.0, 2.0): False, (0.0, 2.1): True, (5.5, 9.0): False, (8.0, None): True, (None, None): True}
    for (start, end), known in overlaps.items():
        assert seen.has((films / "c.mp4", start, end)) == known, (start, end)
    assert not seen.has((films / "b.mp4", None, None))
    assert not seen.has((films / "gone.mp4", None, None))


def test_what_a_model_was_made_from_counts_too(films):
    write_seen(films, [(films / "a.mp4", None, 4.0)])
    write_seen(films, [(films / "b.mp4", None, None)], read_seen(films))
    assert all(read_seen(films).has((films / name, 1.0, 2.0)) for name in ("a.mp4", "b.mp4"))


def test_a_model_that_does_not_say_was_trained_on_nothing(films):
    assert not read_seen(films).has((films / "a.mp4", None, None))


@pytest.mark.parametrize("text", ["nonsense\n", f"{'0' * 32} 1 2 3\n", f"{'0' * 32} 1e9 end\n", "\0" * 99])
def test_nonsense_is_refused(films, text):
    (films / SEEN_FILE).write_text(text)
    with pytest.raises(CheckpointError, match="line 1 is damaged"):
        read_seen(films)


def test_what_an_earlier_version_wrote_counts(tmp_path):
    film = tmp_path / "long.mp4"
    film.write_bytes(bytes(range(256)) * (1 << 14))  # four megabytes
    (tmp_path / "trained-on.txt").write_text(f"{content_key(film, spread=0)} 0.000 2.000\n")
    assert read_seen(tmp_path).has((film, 1.0, 3.0))
    assert not read_seen(tmp_path).has((film, 2.0, 3.0))
