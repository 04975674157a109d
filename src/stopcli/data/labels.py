"""Labels: where they come from, and the one rule that turns them into sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path

from stopcli.errors import InputError, UsageError
from stopcli.model.config import ModelConfig

TEMPLATE = "a video of {}"


def prompts_for(labels: Sequence[str], config: ModelConfig, template: str | None = None) -> list[str]:
    """Return the sentence that stands for each label: the one rule of every command.

    A template that is given comes first, then the one saved with the model, then "a video of {}". Raises
    UsageError for one without ``{}``.
    """
    around = template_for(config, template)
    return [around.replace("{}", label) for label in labels]


def template_for(config: ModelConfig, template: str | None = None) -> str:
    """Return the template given, else the one saved with the model, else "a video of {}"."""
    chosen = template or config.template or TEMPLATE
    check_template(chosen)
    return chosen


def check_template(template: str | None) -> None:
    """Raise UsageError for a template without ``{}``: it would make all labels the same sentence."""
    if template is not None and "{}" not in template:
        raise UsageError(f"--template must hold {{}} where the label goes, got {template!r}")


def default_labels(config: ModelConfig) -> list[str]:
    """Return the model's own labels, else the Kinetics-400 names."""
    return list(config.labels or kinetics400())


def kinetics400() -> list[str]:
    """Return the 400 action names of Kinetics (Kay et al. 2017)."""
    text = (package_files("stopcli") / "assets" / "kinetics400.txt").read_text(encoding="utf-8")
    return text.split("\n")[:400]


def parse_labels(text: str) -> list[str]:
    """Read the labels of an option: ``a,b,c``, or ``@FILE`` with one a line, where lines with # are skipped.

    Raises:
        UsageError: fewer than two labels, or one twice. InputError: the file cannot be read.
    """
    labels = text.split(",")
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not a text file in UTF-8") from error
        labels = [line for line in lines if not line.lstrip().startswith("#")]
        if not any(map(str.strip, labels)):
            raise InputError(f"{path}: no label in it; write one a line")
    labels = [label.strip() for label in labels if label.strip()]
    check_labels(labels)
    return labels


def check_labels(labels: Sequence[str]) -> None:
    """Raise UsageError unless there are two labels or more, each once: something to choose between."""
    if len(labels) < 2:
        way = "separate them with commas, or read them with @FILE"
        raise UsageError(f"two or more labels are needed to choose between, got {len(labels)}; {way}")
    label, count = Counter(labels).most_common(1)[0]
    if count > 1:
        raise UsageError(f"label {label!r} is given twice")
