"""Every kind of record has a view, and a view fits its records."""

from __future__ import annotations

import ast
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

import stopcli
from stopcli import results as r
from stopcli.output.sink import Sink
from stopcli.output.tables import VIEWS, table_of, to_dict
from stopcli.results import measured as m
from stopcli.results import training as t

SCORES = (r.Score("a dog", 0.75, 0.3), r.Score("a cat", 0.25, 0.2))
SPACE = r.IndexSpace(1, "mini", "abcdef0123456789", "fp32", 8, 2.0, 40)
GRID = np.zeros((2, 1, 1), np.float32)
TRACE = r.BlockTrace(GRID > 0, GRID, GRID, np.ones(1, np.float32), np.array([3]))
LOOK = r.Look(GRID + 1, GRID[:, 0], GRID[0, 0])
PIXELS, TWO, SPANS = np.zeros((2, 8, 8, 3), np.uint8), np.ones(2), np.array([[0.0, 1.0], [1.0, 2.0]])
RECORDS = [
    r.Classification("a.mp4", None, None, SCORES),
    r.Hit("a dog", 1, "a.mp4", 1.0, 3.0, 0.25),
    r.Embedded("a.mp4", None, None, 0),
    t.Finetuned("fine-tuned", "classify", "top-1", 90.0, 50.0, 80.0, None, 100, 12.5, "text", (60.0, 98.0)),
    m.BenchmarkScore(
        "STOP", "x", "classification", {"top-1": 50.0}, {"top-1": (40.0, 60.0)}, 10, 0, False, {}
    ),
    m.Speed("encode", "STOP", "bf16", 8, 1234.5, "clips", share=0.5),
    r.IndexedFile("a.mp4", 1_000_000, 3, None),
    r.IndexInfo("idx", 1, 2, 3_000_000, (SPACE,)),
    r.IndexChange("idx", embedded=2, freed=1_500_000),
    r.ModelEntry("mini", True, 1_000_000, True, "MIT", "small", 4),
    r.ModelInfo(
        "m",
        None,
        "toy",
        "b",
        None,
        2_000_000,
        "abc",
        {"eta": 2},
        "ViT",
        "64 px",
        "English",
        4,
        2,
        "MIT",
        {"data": {"n": 3}},
        None,
    ),
    r.ModelTower("T-16", "timm ViT, mean", 64, "squash", 32, "many", None, False, "no ViT blocks"),
    r.Written("x.png", "a picture"),
    r.Diagnosis({"device": "cpu"}, True),
    r.Explanation("a.mp4", "m", 1, PIXELS, TWO, GRID, TWO, (TRACE,), 3, ("x",), SPANS, LOOK, LOOK, "a.png"),
    r.IndexCheck("idx", ("damaged", "cut short"), 3, "idx/damaged-1"),
    t.TrainingPlan(
        "classification", {"train": 9}, 2, 9, 9, "cpu", "fp32", 1, 2, 3, False, True, "top-1", None, 0, 1.0
    ),
    r.SavedClip("b.mp4", "a.mp4", 1.0, 2.0, 0.5, "copy"),
    m.TrialScore(
        "STOP", "x", "few-shot", 2, "last epoch", {"top-1": 50.0}, {1: {"top-1": 50.0}}, 9, False, {}
    ),
    m.Throughput("cpu", "bf16", 2, 4, 8, 8.0, 3, 1, 20, 160.0, 4.0, 5.0, 40.0, 10.0, 6.0, 0.6),
]
IDS = [type(record).__name__ for record in RECORDS]


def text_of(record):
    return [[cell.text for cell in row] for row in table_of([record]).rows]


def test_every_record_that_a_command_may_add_has_a_view():
    """The records are what use cases and commands make and give to the sink."""
    made = set()
    for path in Path(stopcli.__file__).parent.rglob("*.py"):
        calls = (
            n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)
        )
        made |= {f.id if isinstance(f, ast.Name) else getattr(f, "attr", "") for f in calls}
    inner = {"Score", "IndexSpace", "StepReport", "CrossValidation", "EncodedClip", "Failure"}
    inner |= {"BlockTrace", "Look"}
    kinds = {
        name for name, kind in (vars(r) | vars(t) | vars(m)).items() if hasattr(kind, "__dataclass_fields__")
    }
    assert {kind.__name__ for kind in VIEWS} == kinds & made - inner
    assert {type(record) for record in RECORDS} == set(VIEWS)


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_a_table_has_a_cell_for_every_column(record):
    table = table_of([record, record][: 2 if type(record) in (r.Hit, r.Classification) else 1])
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert VIEWS[type(record)].short(record)


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_csv_has_one_line_of_headers_and_plain_cells(record, capsys):
    with Sink("x", "csv") as sink:
        sink.add_all([record, record])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == 1 + 2 * len(list(VIEWS[type(record)].flat(record)))


def test_nested_values_are_json_in_csv():
    info = next(record for record in RECORDS if isinstance(record, r.ModelInfo))
    (row,) = VIEWS[r.ModelInfo].flat(info)
    assert list(row) == list(to_dict(info))
    assert json.loads(row["training"]) == {"data": {"n": 3}}
    assert (row["size"], row["metrics"]) == (2_000_000, None)
    (row,) = VIEWS[r.IndexInfo].flat(r.IndexInfo("idx", 1, 0, 0, ()))
    assert (row["folder"], row["model"]) == ("idx", None)


def test_times_are_shown_where_there_are_some():
    whole, window = (r.Embedded("a.mp4", *span, 0) for span in ((None, None), (1.0, 3.0)))
    assert [c.name for c in table_of([whole]).columns] == ["row", "video"]
    assert [c.name for c in table_of([whole, window]).columns] == ["row", "video", "time"]
    windows = [r.Classification("a.mp4", s, s + 2, SCORES) for s in (0.0, 2.0)]
    names = [row[0].text for row in table_of(windows).rows]
    assert names == ["a.mp4", "", "", ""]
    assert [row[0].text for row in table_of([RECORDS[0], RECORDS[0]]).rows] == ["a.mp4", "", "a.mp4", ""]


def test_numbers_are_shown_as_people_read_them():
    assert text_of(RECORDS[3]) == [
        ["validation top-1", "50.0 %", "90.0 %", "60 to 98 %", ""],
        ["test top-1", "", "80.0 %", "", ""],
    ]
    assert text_of(RECORDS[4]) == [["STOP", "classification", "50.0 (40.0-60.0)", "10"]]
    assert text_of(RECORDS[5])[0][4:] == ["1,234.50 clips", "", "", "", "50%", ""]
    assert ["freed", "1.5 MB"] in text_of(RECORDS[8])
    assert text_of(RECORDS[9]) == [["mini (default)", "yes", "1.0 MB", "4 M", "MIT", "small"]]
    assert text_of(RECORDS[0])[0] == ["a.mp4", "a dog", "75.0%", "█" * 15]
    assert to_dict(RECORDS[13]) == {"device": "cpu", "healthy": True}
