"""Labels: where they come from, and the one rule that turns them into sentences."""

from __future__ import annotations

from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING

from stopcli.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stopcli.model.config import ModelConfig

TEMPLATE = "a video of {}"


def prompts_for(labels: Sequence[str], config: ModelConfig, template: str | None = None) -> list[str]:
    """Return the sentence that stands for each label: the one rule of every command.

    A template that is given comes first, then the one saved with the model, then "a video of {}".

    Args:
        labels: N.
        config: of the model.
        template: a text with ``{}`` where the label goes.

    Raises:
        UsageError: a template without ``{}``.
    """
    around = template or config.template or TEMPLATE
    check_template(around)
    return [around.replace("{}", label) for label in labels]


def check_template(template: str) -> None:
    """Refuse a template that would make all labels the same sentence.

    Raises:
        UsageError: it lacks ``{}``.
    """
    if "{}" not in template:
        raise UsageError(f"--template must hold {{}} where the label goes, got {template!r}")


def default_labels(config: ModelConfig) -> list[str]:
    """Return the model's own labels, else the Kinetics-400 names."""
    return list(config.labels or kinetics400())


def kinetics400() -> list[str]:
    """Return the 400 action names of Kinetics (Kay et al. 2017)."""
    text = (package_files("stopcli") / "assets" / "kinetics400.txt").read_text(encoding="utf-8")
    return text.split("\n")[:400]


def parse_labels(text: str) -> list[str]:
    """Read the labels of an option: ``a,b,c``, or ``@FILE`` with one a line.

    Raises:
        UsageError: fewer than two labels, or one twice. InputError: the file cannot be read.
    """
    labels = read_labels(Path(text[1:])) if text.startswith("@") else text.split(",")
    labels = [label.strip() for label in labels if label.strip()]
    check_labels(labels)
    return labels


def read_labels(path: Path) -> list[str]:
    """Read labels from a text file, one a line; empty lines and lines with # are skipped.

    Raises:
        InputError: it cannot be read, or holds no label.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8") from error
    labels = [line.strip() for line in lines]
    labels = [line for line in labels if line and not line.startswith("#")]
    if not labels:
        raise InputError(f"{path}: no label in it; write one a line")
    return labels


def check_labels(labels: Sequence[str]) -> None:
    """Make sure there is something to choose between.

    Raises:
        UsageError: fewer than two labels, or one twice.
    """
    if len(labels) < 2:
        raise UsageError(f"two or more labels are needed to choose between, got {len(labels)}")
    twice = (
        sorted({name for name in labels if labels.count(name) > 1}) if len(set(labels)) < len(labels) else []
    )
    if twice:
        raise UsageError(f"label {twice[0]!r} is given twice")
