"""Curves and confusion matrices are written whole, whatever the labels are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stopcli.errors import CannotWrite
from stopcli.output.figures import confusion, curve


def colors(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def close_to(path, color):
    return int((np.abs(colors(path) - color).max(-1) < 12).sum())


@pytest.mark.parametrize("plain", [None, 40.0])
def test_a_curve_shows_loss_scores_and_plain_clip(tmp_path, plain):
    path = tmp_path / "curve.png"
    losses = [(i, 2.0 / i) for i in range(1, 101)]
    curve(path, losses, [(50, 60.0), (100, 80.0)], metric="top-1", plain=plain)
    assert close_to(path, (37, 99, 235)) > 100
    assert close_to(path, (234, 88, 12)) > 100
    assert (close_to(path, (107, 114, 128)) > 100) == (plain is not None)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["curve.png"]


def test_a_curve_of_a_run_without_validation_is_drawn(tmp_path):
    curve(tmp_path / "curve.png", [(1, 2.0)], [], metric="R@1", plain=None)
    assert colors(tmp_path / "curve.png").size


@pytest.mark.parametrize("classes", [2, 40])
def test_a_confusion_matrix_takes_labels_that_look_like_formulas(tmp_path, classes):
    labels = [r"$\frac$ <b>a", *(f"class {i}" for i in range(classes - 1))]
    confusion(tmp_path / "c.png", np.eye(classes, dtype=np.int64) * 3, labels, "6 clips $of$")
    assert close_to(tmp_path / "c.png", (8, 48, 107)) > 100  # the diagonal is dark


def test_a_picture_that_cannot_be_written_is_one_clear_error(tmp_path):
    with pytest.raises(CannotWrite, match=r"nowhere.c\.png"):
        curve(tmp_path / "nowhere" / "c.png", [(1, 2.0)], [], metric="R@1", plain=None)
