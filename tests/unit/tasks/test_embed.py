"""Files of vectors: nothing that took long to compute is lost, whatever the disk does meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import write_video
from stopcli.errors import CannotWrite, FileExists, InputError, OutputBusy, UsageError
from stopcli.fileio import alone
from stopcli.results import EncodedClip, Failure
from stopcli.tasks import vectorfile
from stopcli.tasks.embed import embed_texts, embed_videos
from stopcli.tasks.vectorfile import SUFFIXES, Journal, Row, VectorFile, load, save

E = 3


class Encoder:
    """Stands for a model: the vector of a file is made of its bytes; files that are away are failures."""

    def __init__(self):
        self.seen = []

    def describe(self):
        return {"weights": "w", "frames": 4, "precision": "fp32"}

    def encode_videos(self, paths, **_):
        for path in paths:
            self.seen.append(path)
            try:
                first = Path(path).read_bytes()[0]
            except OSError as error:
                yield Failure(path, "file-missing", f"{path}: {error.strerror}")
            else:
                yield EncodedClip(path, None, None, np.full(E, first, np.float32), 1.0)

    def encode_texts(self, texts):
        return np.array([[len(t)] * E for t in texts], np.float32)


@pytest.fixture
def files(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.mp4").write_bytes(bytes([i + 1]))
    return [str(tmp_path / f"{i}.mp4") for i in range(3)]


def held(out):
    vectors = load(out)
    return {row.path: float(v[0]) for row, v in zip(vectors.rows, vectors.matrix(), strict=True)}


def die_at(out, monkeypatch):
    """Let the process die when it is about to replace a file."""
    whole = vectorfile.replacing

    def dies(path, **options):
        if path == out:
            raise KeyboardInterrupt
        return whole(path, **options)

    monkeypatch.setattr(vectorfile, "replacing", dies)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_away_keeps_its_vectors_and_it_is_said(files, tmp_path, suffix):
    out = tmp_path / f"v{suffix}"
    embed_videos(Encoder(), files, out)
    away = Path(files[1]).rename(tmp_path / "away")
    rows, failures = embed_videos(Encoder(), files, out)
    assert held(out) == {files[0]: 1, files[1]: 2, files[2]: 3}
    assert [f.path for f in failures] == [files[1]]
    assert failures[0].message.endswith("1 of its vectors from an earlier run are kept")
    assert [r.row for r in rows] == [0, 1, 2]
    away.rename(files[1])
    again = Encoder()
    assert embed_videos(again, files, out)[1] == []
    assert again.seen == []  # it is back, as it was


def test_a_changed_file_is_redone_in_its_place(files, tmp_path):
    out = tmp_path / "v.npz"
    embed_videos(Encoder(), files, out)
    Path(files[0]).write_bytes(b"\x09")
    os.utime(files[0], ns=(1, 1))
    encoder = Encoder()
    embed_videos(encoder, files, out)
    assert encoder.seen == [files[0]]
    assert held(out) == {files[0]: 9, files[1]: 2, files[2]: 3}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_of_any_bytes_are_written_and_read(tmp_path, suffix):
    names = [os.fsdecode(b"bad\xff.mp4"), "line\u2028sep\x85.mp4", "ünï.mp4"]
    for name in names:
        (tmp_path / name).write_bytes(b"\x07")
    out, paths = tmp_path / f"v{suffix}", [str(tmp_path / n) for n in names]
    embed_videos(Encoder(), paths, out)
    assert held(out) == dict.fromkeys(paths, 7)
    encoder = Encoder()
    embed_videos(encoder, paths, out)
    assert encoder.seen == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_process_that_dies_while_it_saves_loses_nothing(files, tmp_path, suffix, monkeypatch):
    """The two files of .npy are replaced one after the other; the journal stands until both are."""
    out = tmp_path / f"v{suffix}"
    embed_videos(Encoder(), files[:2], out)
    die_at(out, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        embed_videos(Encoder(), files, out)
    monkeypatch.undo()
    encoder = Encoder()
    embed_videos(encoder, files, out)
    assert encoder.seen == []
    assert held(out) == {files[0]: 1, files[1]: 2, files[2]: 3}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_adding_one_file_journals_that_one_and_adding_none_writes_nothing(files, tmp_path, suffix):
    """A ``.npy`` and its rows can be torn apart by a crash, so it is journaled whole."""
    out = tmp_path / f"v{suffix}"
    embed_videos(Encoder(), files[:2], out)
    written, journal = out.stat(), Journal(out, {})
    seen = []

    class Looking(Encoder):
        def encode_videos(self, paths, **_):
            seen.append(list(journal.recover().parts))
            yield from super().encode_videos(paths)

    embed_videos(Looking(), files[:2], out)
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    embed_videos(Looking(), files, out)
    assert seen == [[], files[:2] if suffix == ".npy" else []]
    assert set(held(out)) == set(files)


def test_a_damaged_output_is_refused_although_a_journal_has_some_of_it(files, tmp_path, monkeypatch):
    out = tmp_path / "v.npz"
    embed_videos(Encoder(), files[:2], out)
    die_at(out, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        embed_videos(Encoder(), files, out)
    monkeypatch.undo()
    whole = out.read_bytes()
    out.write_bytes(whole[:100])
    with pytest.raises(InputError, match="damaged"):
        embed_videos(Encoder(), files, out)
    out.write_bytes(whole)
    encoder = Encoder()
    embed_videos(encoder, files, out)
    assert (encoder.seen, set(held(out))) == ([], set(files))


def test_rows_of_other_vectors_are_refused(files, tmp_path):
    out, other = tmp_path / "v.npy", tmp_path / "w.npy"
    embed_videos(Encoder(), files[:2], out)
    embed_videos(Encoder(), files[1:], other)
    other.with_suffix(".jsonl").replace(out.with_suffix(".jsonl"))  # a copy of half
    with pytest.raises(InputError, match="damaged"):
        embed_videos(Encoder(), files, out)


def test_two_processes_never_write_one_output(files, tmp_path):
    out = tmp_path / "v.npz"
    script = (
        "import sys; from pathlib import Path; from stopcli.fileio import alone\n"
        "with alone(Path(sys.argv[1])): print('.', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(out)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b".\n"
    with pytest.raises(OutputBusy, match=rf"process {other.pid} on .* is writing it"):
        embed_videos(Encoder(), files, out)
    with pytest.raises(OutputBusy):
        embed_texts(Encoder(), ["a"], out)
    other.kill()  # a dead process holds no lock
    other.communicate()
    embed_videos(Encoder(), files, out)
    assert len(held(out)) == 3


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotWrite), alone(tmp_path / "file" / "v.npz"):
        pass


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.write_bytes(p.read_bytes()[:-40]),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"PK\x03\x04" + bytes(50)),
        lambda p: np.savez(p, vectors=np.zeros((2, 3)), provenance=np.array("[]")),
    ],
)
def test_a_damaged_file_of_vectors_is_one_sentence(files, tmp_path, spoil):
    out = tmp_path / "v.npz"
    save(out, VectorFile({"kind": "videos"}))
    spoil(out)
    before = out.read_bytes()
    with pytest.raises(InputError, match="choose another --output, or start over with --force"):
        embed_videos(Encoder(), files, out)
    assert out.read_bytes() == before


def test_what_an_interrupted_run_has_done_is_lost_to_no_other(files, tmp_path):
    made = {"kind": "videos", "weights": "w", "frames": 4, "precision": "fp32", "window": None}
    journal = Journal(tmp_path / "v.npz", made | {"device": "cuda", "torch": "2.1"})
    journal.begin(VectorFile({}))
    journal.append([Row("x")], [np.ones(E, np.float32)])
    before = journal.path.read_bytes()
    with pytest.raises(FileExists, match=r"with window None, now it is 4\.0; .* start over with --force"):
        embed_videos(Encoder(), files, tmp_path / "v.npz", window=4.0)
    assert journal.path.read_bytes() == before
    other = Journal(tmp_path / "v.npz", made | {"device": "cpu", "torch": "2.2"})  # the same vectors
    assert list(other.recover().parts) == ["x"]
    embed_videos(Encoder(), files, tmp_path / "v.npz", window=4.0, force=True)
    assert set(held(tmp_path / "v.npz")) == set(files)
    assert not journal.path.exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_suffix_may_be_in_capitals(files, tmp_path, suffix):
    out, small = tmp_path / f"V{suffix.upper()}", tmp_path / f"v{suffix}"
    for path in (out, small):
        embed_videos(Encoder(), files, path)
    assert out.read_bytes()[:4] == small.read_bytes()[:4]
    assert held(out) == held(small)


def test_the_first_npy_of_a_process_that_died_is_finished(files, tmp_path, monkeypatch):
    out = tmp_path / "v.npy"
    die_at(out, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        embed_videos(Encoder(), files, out)
    monkeypatch.undo()
    assert out.with_suffix(".jsonl").exists()
    encoder = Encoder()
    embed_videos(encoder, files, out)
    assert encoder.seen == []
    out.unlink()
    out.with_suffix(".jsonl").write_text('{"path": "mine"}\n')
    with pytest.raises(FileExists, match="--force"):
        embed_videos(Encoder(), files, out)
    embed_videos(Encoder(), files, out, force=True)
    assert len(held(out)) == 3


def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(toy, tmp_path):
    """The system refuses in the middle of a write: RLIMIT_FSIZE stands for the disk's end."""
    clip = write_video(tmp_path / "a.mp4", frames=5)
    out = tmp_path / "v.npz"
    script = (
        "import resource, sys; from stopcli.cli.app import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "embed", clip, "-m", toy, "-o", out, "--format", "json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["errors"][0]["error"] == "cannot-write"
    assert not out.exists()
    assert not list(tmp_path.glob(".*part*"))


def test_texts_are_kept_where_a_process_dies_while_it_saves(tmp_path, monkeypatch):
    out = tmp_path / "t.npy"
    embed_texts(Encoder(), ["a", "bb"], out)
    die_at(out, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        embed_texts(Encoder(), ["ccc"], out)
    monkeypatch.undo()
    embed_texts(Encoder(), ["dddd"], out)
    assert held(out) == {"a": 1, "bb": 2, "ccc": 3, "dddd": 4}


def test_a_file_that_is_replaced_while_it_is_read_is_told(files, tmp_path):
    class Replacing(Encoder):
        def encode_videos(self, paths, **options):
            Path(files[1]).write_bytes(b"something else")
            yield from super().encode_videos(paths, **options)

    _, failures = embed_videos(Replacing(), files, tmp_path / "v.npz")
    assert [(f.path, f.error) for f in failures] == [(files[1], "file-changed")]
    assert set(held(tmp_path / "v.npz")) == {files[0], files[2]}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_outputs_may_have_any_name_but_must_be_files(files, tmp_path, suffix):
    out = tmp_path / os.fsdecode(b"o\xff" + suffix.encode())
    embed_videos(Encoder(), files, out)
    assert len(held(out)) == 3
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="is a pipe"):
        embed_videos(Encoder(), files, pipe)


def test_texts_of_an_interrupted_run_are_saved_by_the_next_one(tmp_path, monkeypatch):
    out = tmp_path / "t.npz"

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("stopcli.tasks.embed.save", die)
    with pytest.raises(KeyboardInterrupt):
        embed_texts(Encoder(), ["a", "bb"], out)
    monkeypatch.undo()
    embed_texts(Encoder(), ["a", "bb"], out)
    assert held(out) == {"a": 1, "bb": 2}
