"""What reaches stdout and stderr: whole in every format, and nothing that steers a terminal."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stopcli.errors import BadDataset, ExitStatus
from stopcli.output.sink import Sink, break_path
from stopcli.results import Classification, Failure, Hit, Score, Written, printable

FAILURE = Failure("b.mp4", "unreadable-video", "b.mp4: is damaged")
BAR = "█"


def test_control_characters_are_replaced_and_letters_are_not():
    assert printable("a\x1b[31m\r\n\u202eé 猫") == "a\ufffd[31m\ufffd\ufffd\ufffdé 猫"
    assert printable("a\nb\t", keep="\n") == "a\nb\ufffd"


@pytest.mark.parametrize(
    "path", ["/videos/of cats/first.mp4", r"C:\videos\of cats\first.mp4", "first.mp4", "/", ""]
)
@pytest.mark.parametrize("width", [1, 8, 12, 80])
def test_paths_are_broken_after_separators_only(path, width):
    lines = break_path(path, width).split("\n")
    assert "".join(lines) == path
    assert all(line[-1] in "/\\" for line in lines[:-1])
    assert all(len(line) <= width or not set("/\\") & set(line[:-1]) for line in lines)
    assert width < 80 or len(lines) == 1


def test_names_are_printed_as_they_are(capsys):
    """Spaces of any width, joined emoji, private letters; not what a terminal acts on."""
    name = "PM\u202f1\u00a0\u3000\u0645\u200c\U0001f468\u200d\U0001f467\uf029.mov"
    with Sink("cut", "quiet") as sink:
        sink.add(Written(name, ""))
    assert capsys.readouterr().out == f"{name}\n"
    assert printable("a\x1b\x9b\u202e\u2066\u2028\udcff\uffffb") == "a" + 7 * "\ufffd" + "b"


def test_lines_say_which_of_several_queries_a_moment_answers(capsys):
    """A whole file that answers two of them is still listed once."""
    moment, whole = Hit("a fox", 1, "a.mp4", 1.0, 2.5, 0.3), Hit("a fox", 1, "b.mp4", None, None, 0.3)
    for several in (False, True):
        with Sink("watch", "quiet") as sink:
            sink.several = several
            sink.add_all([moment, replace(moment, query="a dog"), whole, replace(whole, query="a dog")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["a.mp4\t1.000\t2.500"] * 2 + ["b.mp4"]
    assert lines[3:] == ["a.mp4\t1.000\t2.500\ta fox", "a.mp4\t1.000\t2.500\ta dog", "b.mp4"]


def shown(monkeypatch, capsys, width):
    """Return the lines of a table on a terminal of that many columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    with Sink("classify") as sink:
        sink.add(
            Classification(
                "/videos/of/many/cats/and/dogs.mp4", None, None, (Score("a [b]cat[/b]", 0.75, 0.3),)
            )
        )
    return capsys.readouterr().out


def test_narrow_terminals_leave_out_bars_and_cut_nothing(monkeypatch, capsys):
    assert BAR in shown(monkeypatch, capsys, 120)
    narrow = shown(monkeypatch, capsys, 40)
    assert BAR not in narrow
    assert "75.0%" in narrow
    assert "dogs.mp4" in narrow
    assert "[b]cat[/b]" in narrow  # no markup


def test_a_table_that_no_terminal_reads_is_never_cut(capsys):
    with Sink("embed") as sink:
        sink.add(Written("x/" * 500, "y" * 500))
    out = capsys.readouterr().out
    assert "x/" * 500 in out
    assert "y" * 500 in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("records", "status", "exit_status"),
    [
        ([Written("a")], "ok", ExitStatus.OK),
        ([Written("a"), FAILURE], "partial", ExitStatus.FAILED),
        ([FAILURE], "error", ExitStatus.INPUT),
    ],
)
def test_json_is_one_object_that_says_how_it_went(capsys, records, status, exit_status):
    with Sink("embed", "json") as sink:
        sink.add_all(records)
    out, err = capsys.readouterr()
    value = json.loads(out)
    assert list(value) == ["schema", "command", "status", "data", "errors"]
    assert (value["status"], sink.exit_status) == (status, exit_status)
    assert len(value["data"]) + len(value["errors"]) == len(records)
    assert ("skipped: b.mp4: is damaged" in err) == (FAILURE in records)
    assert ("nothing was done: the input could not be used" in err) == (status == "error")


def test_an_error_that_ends_the_command_is_a_record_without_a_path(capsys):
    with pytest.raises(BadDataset) as caught, Sink("finetune", "jsonl") as sink:
        sink.add(Written("a"))
        raise BadDataset("line 3: no label")
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[1]) == {
        "path": None,
        "error": "bad-dataset",
        "message": "line 3: no label",
    }
    assert err == "error: line 3: no label\n"
    assert caught.value.reported


def test_a_file_name_that_is_no_text_is_json_all_the_same(capsys):
    with Sink("embed", "jsonl") as sink:
        sink.add(Written("bad\udcff.mp4"))
    assert json.loads(capsys.readouterr().out)["path"] == "bad\udcff.mp4"


def test_quiet_lines_and_a_muted_sink(capsys):
    with Sink("embed", quiet=True, null=True) as sink:
        sink.add(Written("a\nb"))
        sink.say("done")
    assert capsys.readouterr() == ("a\nb\0", "")
    with Sink("embed") as sink:
        sink.format = "none"
        sink.add(Written("a"))
    assert capsys.readouterr() == ("", "")
