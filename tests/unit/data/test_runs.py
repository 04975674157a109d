"""Which process does what: stretches of one list, and a list that others may have written."""

from __future__ import annotations

import json
import os

import pytest

from stopcli.data.runs import MANIFEST, Input, Run, Shard, lost_or_kept, read_run, share
from stopcli.errors import FileMissing, InputError, UsageError


def inputs(*seconds):
    return tuple(Input(f"/v/{i}.mp4", 10, 20, f"key{i}", s) for i, s in enumerate(seconds))


def stretches(run):
    return [[int(i.path[3:-4]) for i in run.of(Shard(n, run.count))] for n in range(1, run.count + 1)]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "5"}, (3, 3)),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "3"}, (1, 3)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "8",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_STEP": "4",
                "SLURM_PROCID": "0",
                "SLURM_NTASKS": "1",
            },
            (3, 3),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (1, 4)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (2, 2)),
    ],
)
def test_a_scheduler_says_which_part_this_is(environ, expected):
    assert Shard.parse("auto", environ) == expected


@pytest.mark.parametrize(
    "text", ["", "3", "0/3", "4/3", "1/0", "-1/3", "a/b", "1/3/2", "1/999999", "²/3", "auto"]
)
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(text, {"RANK": "x", "WORLD_SIZE": "2"} if text == "auto" else {})


def test_without_a_scheduler_auto_says_so():
    with pytest.raises(UsageError, match="no scheduler"):
        Shard.parse("auto", {})


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_stretches_are_disjoint_in_order_and_of_like_length(tmp_path, count):
    lengths = [float(7 * i % 11 + 1) for i in range(60)]
    run = Run(tmp_path, count, {}, inputs(*lengths), {})
    found = stretches(run)
    assert [i for part in found for i in part] == list(range(60))
    sums = [sum(lengths[i] for i in part) for part in found]
    assert max(sums) - min(sums) <= 2 * max(lengths)


def test_one_long_film_is_a_stretch_of_its_own(tmp_path):
    assert stretches(Run(tmp_path, 3, {}, inputs(1, 1, 100, 1, 1), {})) == [[0, 1], [2], [3, 4]]


def test_where_no_length_is_known_files_are_counted(tmp_path):
    assert stretches(Run(tmp_path, 2, {}, inputs(0, 0, 0, 0), {})) == [[0, 1], [2, 3]]


def test_the_first_to_come_plans_and_the_others_read(tmp_path):
    settings = {"window": 8.0, "weights": "w"}
    planned = share(
        tmp_path / "run", Shard(2, 3), settings, {"torch": "2"}, lambda: ({"key": "k"}, list(inputs(1, 2)))
    )
    again = share(tmp_path / "run", Shard(1, 3), settings, {}, lambda: pytest.fail("planned already"))
    assert planned == again
    assert again.made == {"torch": "2"}
    assert again.settings == settings | {"key": "k"}
    with pytest.raises(UsageError, match=r"window was 8\.0, now it is 4\.0"):
        share(tmp_path / "run", Shard(1, 3), {"window": 4.0, "weights": "w"}, {}, dict)
    with pytest.raises(UsageError, match="shared by 3"):
        share(tmp_path / "run", Shard(1, 2), settings, {}, dict)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        '{"format": 2, "shards": 3, "settings": {}, "made": {}}',
        '{"format": 1, "shards": 0, "settings": {}, "made": {}}',
        '{"format": 1, "shards": 3, "settings": 5, "made": {}}',
        '{"format": 1, "shards": 3, "settings": {}, "made": {}}\n{"path": "x"}',
        '{"format": 1, "shards": 3, "settings": {}, "made": {}}\n'
        '{"path": "x", "size": "1", "mtime_ns": 1, "content": "", "seconds": 1}',
        '{"format": 1, "shards": 3, "settings": {}, "made": {}}\n'
        '{"path": "x", "size": 1, "mtime_ns": 1, "content": "", "seconds": NaN}',
        "[" * 100_000,
        '{"format": 1, "shards": 3, "settings": {}, "made": {}}\n'
        '{"path": "a\\u0000b", "size": 1, "mtime_ns": 1, "content": "", "seconds": 1}',
        '{"format": 1, "shards": 3, "settings": {}, "made": {}}\n'
        '{"path": "a\\ud800b", "size": 1, "mtime_ns": 1, "content": "", "seconds": 1}',
    ],
)
def test_a_list_that_nobody_here_wrote_is_refused(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(InputError, match=r"run\.jsonl: not the list"):
        read_run(tmp_path)


def test_no_list_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileMissing, match="--shard"):
        read_run(tmp_path)


def test_what_was_changed_since_is_listed_with_its_reason(tmp_path):
    rows = []
    for name in ("same", "other", "gone"):
        (tmp_path / name).write_bytes(b"x")
        status = (tmp_path / name).stat()
        rows.append(Input(str(tmp_path / name), status.st_size, status.st_mtime_ns, name, 1.0))
    rows.append(Input(str(tmp_path / "same"), -1, 0, "", 0.0))
    os.utime(tmp_path / "other", ns=(5, 5))
    (tmp_path / "gone").unlink()
    kept, failures = lost_or_kept(rows)
    assert [i.content for i in kept] == ["same"]
    assert [f.error for f in failures] == ["file-changed", "file-missing", "unreadable-video"]


def test_names_that_are_no_text_are_kept(tmp_path):
    name = os.fsdecode(b"/v/\xff.mp4")
    share(tmp_path, Shard(1, 1), {}, {}, lambda: ({}, [Input(name, 1, 1, "k", 1.0)]))
    assert read_run(tmp_path).inputs[0].path == name
    json.loads((tmp_path / MANIFEST).read_text().splitlines()[1])
