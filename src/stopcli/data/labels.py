"""Labels: where they come from, and the one rule that turns them into sentences."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files as package_files
from itertools import chain
from pathlib import Path

from stopcli.data.tablefile import read_text
from stopcli.errors import InputError, UsageError
from stopcli.model.config import ModelConfig

TEMPLATE = "a video of {}"
FEW = 100  # labels: too few to tell what is usual
RARE, OFTEN, CLOSE = 2, 4, 0.8  # clips of a label that may be a typo; times as many of the other; likeness
MOST_RARE = 100  # such labels that are looked at


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
        raise UsageError(f"--template must hold {{}} where the label goes, got {template[:80]!r}")
    if template is not None and (
        len(template) > 1000 or template != template.encode(errors="ignore").decode()
    ):
        raise UsageError(f"--template must be a text of at most 1000 characters, got {template[:40]!a}")


def default_labels(config: ModelConfig) -> list[str]:
    """Return the model's own labels, else the Kinetics-400 names."""
    return list(config.labels or kinetics400())


def null_sentences(config: ModelConfig) -> list[str]:
    """Return sentences about many things, to compare queries with: the model's labels; Kinetics' if few."""
    own = list(config.labels or ())
    return prompts_for(own if len(own) >= FEW else [*own, *kinetics400()], config)


def kinetics400() -> list[str]:
    """Return the 400 action names of Kinetics (Kay et al. 2017)."""
    text = (package_files("stopcli") / "assets" / "kinetics400.txt").read_text(encoding="utf-8")
    return text.split("\n")[:400]


def one_spelling(labels: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Choose one spelling of labels that differ in capitals only: the most frequent, of equals the first.

    Returns the spelling for each label, and a sentence for each choice.
    """
    counts = Counter(labels)
    alike: dict[str, list[str]] = {}
    for label in counts:
        alike.setdefault(label.casefold(), []).append(label)
    chosen = {label: max(names, key=counts.__getitem__) for names in alike.values() for label in names}
    notes = [
        f"labels {', '.join(map(repr, names))} are taken as one: {chosen[names[0]]!r}"
        for names in alike.values()
        if len(names) > 1
    ]
    return chosen, notes


def near_labels(labels: Sequence[str]) -> list[str]:
    """Return a sentence for each rare label that reads like a frequent one: perhaps a typo."""
    counts = Counter(labels)
    rare = [label for label, count in counts.items() if count <= RARE]
    found = []
    for label in rare[:MOST_RARE]:
        digits = re.sub(r"\D", "", label)  # "type 3" is no typo for "type 4"
        others = [
            other
            for other, count in counts.items()
            if count >= OFTEN * counts[label] and re.sub(r"\D", "", other) == digits
        ]
        for close in difflib.get_close_matches(label, others, 1, CLOSE):
            pair = f"{label!r} ({counts[label]}) reads like {close!r} ({counts[close]})"
            found.append(f"label {pair}; if it is a typo, correct it")
    return found


def parse_labels(texts: str | Sequence[str], say: Callable[[str], object] = lambda _: None) -> list[str]:
    """Read the labels of an option, also if it is given several times.

    Each is ``a,b,c``, or ``@FILE`` with one a line, where lines with # are skipped.

    Labels that are the same, or differ in capitals or white space only, are one, which ``say`` tells.

    Raises:
        UsageError: fewer than two labels. InputError: the file cannot be read.
    """
    given = [texts] if isinstance(texts, str) else texts
    labels = [
        t for text in given for t in (read_lines(Path(text[1:])) if text[:1] == "@" else text.split(","))
    ]
    labels = [unicodedata.normalize("NFC", " ".join(label.split())) for label in labels if label.strip()]
    spelling, notes = one_spelling(labels)
    notes += [f"label {t!r} is given {n} times, and taken once" for t, n in Counter(labels).items() if n > 1]
    for note in notes:
        say(f"note: {note}")
    labels = [label for label in dict.fromkeys(labels) if spelling[label] == label]
    check_labels(labels)
    return labels


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file that hold anything, without those that begin with #; raises InputError."""
    try:
        lines = read_text(path).split("\n")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise InputError(f"{path}: no text in it; write one a line")
    return found


def expanded(texts: Iterable[str] | None) -> tuple[str, ...]:
    """Return texts, each once, with the lines of the file for one that is ``@FILE``; raises InputError."""
    every = (read_lines(Path(t[1:])) if t.startswith("@") else [t] for t in texts or ())
    return tuple(dict.fromkeys(chain.from_iterable(every)))


def check_labels(labels: Sequence[str]) -> None:
    """Raise UsageError unless there are two labels or more, each once: something to choose between."""
    if len(labels) < 2:
        way = "separate them with commas, or read them with @FILE"
        raise UsageError(f"two or more labels are needed to choose between, got {len(labels)}; {way}")
    label, count = Counter(labels).most_common(1)[0]
    if count > 1:
        raise UsageError(f"label {label!r} is given twice")
