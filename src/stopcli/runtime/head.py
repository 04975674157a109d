"""What labels look like, learnt from labelled clips: what words do not say.

A label's text vector is its direction in words. Beside it stands one learnt from clips by ridge regression
on their vectors; with a strong ridge that is the direction of the class's mean. How much each of them counts,
how strong the ridge is, and how sharp the scores are, is what predicts held-out clips best; without
held-out clips, each training clip from those of other files. Letters: N clips, C labels, E embedding size.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import CheckpointError
from stopcli.fileio import is_file, replacing
from stopcli.model.config import HEAD_FILE, HeadKind
from stopcli.model.files import ModelFiles
from stopcli.runtime.usual import Usual

Vectors = NDArray[np.float32]

SAME = 0.999  # cosine of text vectors from which on nothing can tell two labels apart by their words
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SHARES: dict[str, tuple[float, ...]] = {  # of the clips, beside the words
    "auto": (0.0, 0.25, 0.5, 0.75, 1.0),
    "text": (0.0,),
    "mix": (0.25, 0.5, 0.75),
    "prototype": (1.0,),
}
CONSTANT = 30.0  # beside a vector of unit length: the ridge hardly holds back the bias
SHARPNESS = tuple(np.geomspace(0.5, 40, 20))
FLOATS = {"F64", "F32", "F16"}  # what a head's numbers may be
MOST_JUDGED = 5000  # clips that choose: more would choose the same
USUAL = tuple(field.name for field in fields(Usual))


@dataclass(frozen=True)
class Head:
    """A vector and a bias for each label: logits (B,C) of clips (B,E) are ``clips @ vectors.T + bias``."""

    labels: tuple[str, ...]
    vectors: Vectors
    bias: Vectors
    template: str | None = None  # the sentence around the labels
    usual: Usual | None = None  # how well the labels' own clips fit them, if that is known

    def logits(self, clips: Vectors) -> Vectors:
        """Return how well clips (B,E) fit the labels: (B,C)."""
        out: Vectors = clips @ self.vectors.T + self.bias
        return out

    def odds(self, clips: Vectors, label: int) -> Vectors:
        """Return the log-odds (B,) that clips (B,E) show a label: its share's, less for what is unlike it."""
        logits = self.logits(clips)
        others: Vectors = np.logaddexp.reduce(np.delete(logits, label, 1), axis=1)
        odds = logits[:, label] - others
        doubt = self.usual.doubt(clips, logits[:, label], label) if self.usual else np.zeros_like(odds)
        likely = doubt - np.logaddexp(0, -odds)  # log(share * what is left of it)
        out: Vectors = np.where(doubt < 0, likely - np.log(-np.expm1(np.minimum(likely, -1e-7))), odds)
        return out

    def confidence(self, clip: Vectors, label: int) -> float | None:
        """Return how sure it is that a clip (E,) shows a label; None if no more is known than its share."""
        if self.usual is None:
            return None
        return float(1 / (1 + np.exp(-np.clip(self.odds(clip[None], label)[0], -500, 500))))

    def of(self, labels: Sequence[str], template: str | None = None) -> Head | None:
        """Return the head of some labels, in this order; None if not all are known, in the same sentence."""
        if not all(map(self.knows, labels)) or template not in (None, self.template):
            return None
        rows = [self.place_of(label) for label in labels]
        usual = self.usual and self.usual.of_labels(rows)
        return Head(tuple(labels), self.vectors[rows], self.bias[rows], self.template, usual)

    def knows(self, label: str) -> bool:
        """Say whether a label is among them, in capitals or not."""
        return _nfc(label) in self._rows or _nfc(label).casefold() in self._rows

    def place_of(self, label: str) -> int:
        """Return which label it is, in capitals or not; KeyError if it is none."""
        label = _nfc(label)
        return self._rows[label if label in self._rows else label.casefold()]

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Rows by label; by the label without capitals too, where that is no label itself."""
        labels = [_nfc(label) for label in self.labels]  # some systems write ü as u and two dots
        rows = {label.casefold(): i for i, label in reversed(list(enumerate(labels)))}
        return rows | {label: i for i, label in enumerate(labels)}

    def save(self, file: Path) -> None:
        """Write vectors and biases; raises CannotWrite."""
        from safetensors.numpy import save

        usual = {} if self.usual is None else {name: getattr(self.usual, name) for name in USUAL}
        with replacing(file) as part:
            part.write_bytes(save({"vectors": self.vectors, "bias": self.bias} | usual))


def _nfc(label: str) -> str:
    return unicodedata.normalize("NFC", label)


class Choice(NamedTuple):
    """How a head was made."""

    head: Head | None  # None: words alone
    share: float  # of the clips, beside the words
    ridge: float


class LabelScores(NamedTuple):
    """How clips fit labels, all (B,C)."""

    logits: Vectors
    shares: Vectors  # their softmax
    cosines: Vectors  # with the labels' words


def score_labels(clips: Vectors, texts: Vectors, scale: float, head: Head | None) -> LabelScores:
    """Score clips (B,E) by labels' texts (C,E) at CLIP's temperature ``scale``, or by their head."""
    cosines = clips @ texts.T
    logits = scale * cosines if head is None else head.logits(clips)
    return LabelScores(logits, shares_of(logits), cosines)


def shares_of(logits: Vectors) -> Vectors:
    """Return the softmax of each row (B,C)."""
    odds = np.exp(logits - logits.max(1, keepdims=True))
    shares: Vectors = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
    return shares


def head_of(files: ModelFiles, size: int) -> Head | None:
    """Read a model's head, if it has one; ``size`` numbers are a vector. CheckpointError: it does not fit."""
    from safetensors import SafetensorError, safe_open

    config, labels = files.config, files.config.labels or ()
    if config.head is None or files.folder is None:
        return None
    file, shapes = files.folder / HEAD_FILE, {"vectors": (len(labels), size), "bias": (len(labels),)}
    usual = {
        "means": (len(labels), size),
        "fits": (len(labels), 2),
        "spreads": (len(labels), 2),
        "freedom": (1,),
    }
    try:
        if not is_file(file):  # a pipe would be waited for
            raise OSError("no such file")
        with safe_open(file, "np") as held:
            if usual.keys() <= set(held.keys()):  # older heads say nothing of it
                shapes |= usual
            slices = {name: held.get_slice(name) for name in shapes}
            fits = all(tuple(slices[n].get_shape()) == shape for n, shape in shapes.items())
            fits = fits and all(part.get_dtype() in FLOATS for part in slices.values())
            # nothing is read that is larger than it should be
            parts = [held.get_tensor(name).astype(np.float32) for name in shapes] if fits else []
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file}: damaged or absent ({error}); fetch or copy the model again"
        ) from error
    measured = Usual(*parts[2:]) if parts[2:] else None
    if not all(np.isfinite(part).all() for part in parts) or not (measured is None or measured.is_sound()):
        parts = []
    if not parts:
        raise CheckpointError(f"{file}: does not belong to the {len(labels)} labels of its config.json")
    return Head(labels, parts[0], parts[1], config.template, measured)


def fit_head(
    labels: Sequence[str],
    texts: Vectors,
    clips: Vectors,
    truth: NDArray[np.int64],
    *,
    kind: HeadKind = "auto",
    held_out: tuple[Vectors, NDArray[np.int64]] | None = None,
    groups: Sequence[str] | None = None,
) -> Choice:
    """Choose and make a head for labels with texts (C,E) from clips (N,E) of the classes ``truth`` (N).

    Words alone are no choice of ``auto`` where they are the same for two labels. ``held_out`` are clips that
    nothing was trained on, and their classes. ``groups`` (N) name what clips stay together with, such as
    their file: how well they are predicted is then judged without the others of their group.
    """
    judged, answers = held_out or (clips, truth)
    some = _sample(len(judged))
    judged, answers = judged[some], answers[some]
    words, scale_words = judged @ texts.T, _scale(clips @ texts.T)
    best: tuple[float, float, float, float] | None = None
    shares = SHARES[kind]
    if kind == "auto" and alike(labels, texts):
        shares = shares[1:]
    options = [(share, ridge) for share in shares for ridge in (RIDGES if share else RIDGES[:1])]
    blocks = None if groups is None else _blocks(groups, truth)
    kept = slice(None) if held_out else some
    fits = {r: _ridge(clips, truth, len(labels), r, blocks, kept) for r in {ridge for _, ridge in options}}
    for share, ridge in options:
        (vectors, bias), others = fits[ridge]
        looks = judged @ vectors.T + bias if held_out else others
        mixed = (1 - share) * words / scale_words + share * looks / _scale(others)
        for sharp in SHARPNESS:
            loss = _loss(sharp * mixed, answers)
            if best is None or loss < best[0] - 1e-9:
                best = loss, share, ridge, sharp
    assert best is not None
    _, share, ridge, sharp = best
    if share == 0:
        return Choice(None, 0.0, ridge)
    (vectors, bias), others = fits[ridge]
    looks_share, words_share = sharp * share / _scale(others), sharp * (1 - share) / scale_words
    head = Head(tuple(labels), words_share * texts + looks_share * vectors, looks_share * bias)
    usual = _usual(
        head,
        (clips[kept], truth[kept]),
        words_share * (clips[kept] @ texts.T) + looks_share * others,
        None if groups is None else [groups[i] for i in np.arange(len(clips))[kept]],
        held_out,
    )
    return Choice(replace(head, usual=usual), share, ridge)


def _usual(
    head: Head,
    clips: tuple[Vectors, NDArray[np.int64]],
    logits: Vectors,
    groups: Sequence[str] | None,
    held_out: tuple[Vectors, NDArray[np.int64]] | None,
) -> Usual | None:
    """Measure how well clips fit their own labels, by logits (N,C) that were learned from others."""
    vectors, truth = clips
    own = logits[np.arange(len(truth)), truth]
    names = [str(i) for i in range(len(truth))] if groups is None else groups
    if held_out is None:
        return Usual.of(vectors, truth, own, names, len(head.labels))
    judged, answers = held_out
    scores = head.logits(judged)[np.arange(len(answers)), answers]
    return Usual.of(vectors, truth, own, names, len(head.labels), (judged, answers, scores))


def alike(labels: Sequence[str], texts: Vectors) -> list[tuple[str, ...]]:
    """Return groups of labels whose text vectors (C,E) are the same: words cannot tell them apart."""
    groups: dict[int, list[str]] = {}
    for start in range(0, len(texts), 512):
        first = (texts[start : start + 512] @ texts.T > SAME).argmax(1)  # the first that is like each
        for label, owner in zip(labels[start : start + 512], first.tolist(), strict=True):
            groups.setdefault(owner, []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _sample(count: int) -> NDArray[np.int64]:
    """Return the numbers of at most `MOST_JUDGED` of so many clips, the same ones each time."""
    if count <= MOST_JUDGED:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, MOST_JUDGED, replace=False))


def _blocks(groups: Sequence[str], truth: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return which clips are left out together: those of a group whose classes other groups have, too."""
    homes: dict[int, set[str]] = {}
    for group, answer in zip(groups, truth.tolist(), strict=True):
        homes.setdefault(answer, set()).add(group)
    members: dict[str, list[int]] = {}
    for i, (group, answer) in enumerate(zip(groups, truth.tolist(), strict=True)):
        if len(homes[answer]) > 1:
            members.setdefault(group, []).append(i)
    return [np.array(block) for block in members.values() if len(block) > 1]


def _ridge(
    clips: Vectors,
    truth: NDArray[np.int64],
    classes: int,
    ridge: float,
    blocks: Sequence[NDArray[np.int64]] | None = None,
    kept: NDArray[np.int64] | slice = slice(None),
) -> tuple[tuple[Vectors, Vectors], Vectors]:
    """Regress who belongs where: ((C,E), (C,)), and what each of the ``kept`` clips gets from others (K,C).

    Others are all clips but itself and those of its block. Each class weighs the same, however many clips
    it has.
    """
    weight = 1 / np.bincount(truth, minlength=classes).clip(1)[truth]
    weight = np.sqrt(weight / weight.mean()).astype(np.float64)[:, None]
    x = np.hstack([clips, np.full((len(clips), 1), CONSTANT)]) * weight
    y = np.eye(classes)[truth] * weight
    inverse = np.linalg.inv(x.T @ x + ridge * np.eye(x.shape[1]))
    found = inverse @ x.T @ y  # (E+1,C)
    own = ((x @ inverse) * x).sum(1, keepdims=True)  # how much each clip pulls its own result to itself
    fitted = x @ found
    others = (fitted - own * y) / (1 - own)
    for block in blocks or ():
        if len(block) > x.shape[1]:  # then it is quicker to regress without it
            rest = np.setdiff1d(np.arange(len(x)), block)
            grams = x[rest].T @ x[rest] + ridge * np.eye(x.shape[1])
            others[block] = x[block] @ np.linalg.solve(grams, x[rest].T @ y[rest])
            continue
        pulls = np.eye(len(block)) - x[block] @ inverse @ x[block].T
        others[block] = y[block] - np.linalg.solve(pulls, y[block] - fitted[block])
    vectors, bias = found[:-1].T.astype(np.float32), (CONSTANT * found[-1]).astype(np.float32)
    return (vectors, bias), (others / weight)[kept].astype(np.float32)


def _scale(scores: Vectors) -> float:
    """Return how far apart the scores (N,C) of a clip are, on average."""
    return max(1e-4, float((scores - scores.mean(1, keepdims=True)).std()))


def _loss(logits: Vectors, truth: NDArray[np.int64]) -> float:
    top = logits.max(1, keepdims=True)
    shares = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    return -float(shares[np.arange(len(truth)), truth].mean())
