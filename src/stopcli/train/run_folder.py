"""The folder of a run: a model that every command takes, and beside it how it was made.

Of several processes only the first writes.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stopcli.data.seen import SEEN_FILE, Seen, write_seen
from stopcli.data.table import SPLITS, Clip, Row, Task
from stopcli.errors import CannotWrite, CheckpointError, FileExists, UsageError
from stopcli.fileio import (
    append_line,
    exists,
    is_folder,
    make_folder,
    read_json,
    replacing,
    write_error,
    write_text,
)
from stopcli.hub.card import CARD_FILE, model_card
from stopcli.model.checkpoint import save
from stopcli.model.config import (
    CONFIG_FILE,
    HEAD_FILE,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    ModelConfig,
    read_config,
)
from stopcli.model.files import ModelFiles, known_hash
from stopcli.model.towers.tokens import TOKENIZER_FILES
from stopcli.output.sink import no_formula, safe_path
from stopcli.results.training import CrossValidation, Finetuned, Interval
from stopcli.train import distributed

if TYPE_CHECKING:
    from stopcli.model.stop import Stop

METRICS_FILE, CURVE_FILE, CONFUSION_FILE = "metrics.jsonl", "curve.png", "confusion.png"
PREDICTIONS_FILE = "predictions.csv"  # of held-out clips; never published, it names files
STATE_FILE, BEST_FILE, FOLDS = ".state.safetensors", ".best.safetensors", ".folds"
BESIDE = (CURVE_FILE, CONFUSION_FILE, PREDICTIONS_FILE, FOLDS)
SIGNS = (STATE_FILE, BEST_FILE, FOLDS, SEEN_FILE)  # of a run; nothing else has one
OURS = (
    CONFIG_FILE,
    WEIGHTS_FILE,
    HEAD_FILE,
    METRICS_FILE,
    CARD_FILE,
    STATE_FILE,
    BEST_FILE,
    SEEN_FILE,
    *BESIDE,
)
PART = re.compile(r"\.[^/]+-[0-9a-f]{12}\.part(\.\w+)?")  # see `stopcli.fileio.replacing`
METRIC: dict[Task, str] = {"classification": "top-1", "retrieval": "R@1"}  # decides which weights are best


class RunFolder:
    """Where a run goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state_file = path / STATE_FILE

    def check(self, *, resume: bool, force: bool) -> None:
        """Make sure that a run can be written here; change nothing.

        Raises FileExists if it is a file or holds what nobody said what to do with; CannotWrite.
        """
        path = self.path
        nearest = next(p for p in (path, *path.parents) if exists(p))
        if not is_folder(nearest):
            raise FileExists(f"{nearest}: is a file; -o names the folder of the model to make")
        if not os.access(nearest, os.W_OK):
            raise CannotWrite(f"{path}: the folder {nearest} cannot be written to; choose another -o")
        ours = _is_ours(path)
        if ours and not resume and not force:
            advice = "go on with --resume, start over with --force, or choose another -o"
            raise FileExists(f"{path}: holds a model already; {advice}")
        if ours and resume and not self._holds_run():
            advice = "start over with --force, or choose another -o"
            raise FileExists(f"{path}: holds a model, but no run to resume; {advice}")
        if ours and resume and self._lacks_state():
            advice = f"copy {self.state_file.name} here too, or start over with --force"
            raise FileExists(f"{path}: holds a model, but not the state of its run; {advice}")
        if exists(path) and not ours and any(path.iterdir()):
            raise FileExists(f"{path}: is not empty and holds no run; choose another -o")

    def _holds_run(self) -> bool:
        """Say whether a run was begun or finished here; a log beside a model of another make is none."""
        if any(sign.exists() for sign in (self.state_file, self.path / FOLDS)):
            return True
        logged = (self.path / METRICS_FILE).exists()
        return logged and (not exists(self.path / CONFIG_FILE) or bool(_made(self.path)))

    def _lacks_state(self) -> bool:
        """Say whether a model lies here whose run got on so far that it must have left a state."""
        begun = self.finished or any(sign.exists() for sign in (self.state_file, self.path / FOLDS))
        if begun or not (self.path / WEIGHTS_FILE).exists():
            return False
        log = self.path / METRICS_FILE
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        return (
            sum('"validation"' in line for line in lines) > 1
        )  # one is judged before the first state is kept

    @property
    def finished(self) -> bool:
        """Whether a run came to its end here; one that was interrupted has left its state."""
        begun = (self.state_file, self.path / FOLDS)  # of a run that goes on, or of one that starts over
        if any(sign.exists() for sign in begun) or not (self.path / METRICS_FILE).exists():
            return False
        return (self.path / CARD_FILE).exists() or "intervals" in _made(self.path)  # written at the end alone

    def has_state(self) -> bool:
        """Say whether a state was saved; raises UsageError where not all processes see it."""
        seen = distributed.gather_dict({distributed.rank(): self.state_file.exists()})
        if len(set(seen.values())) > 1:
            problem = "not every machine sees the state to resume"
            raise UsageError(f"{self.path}: {problem}; put -o on a folder that they share")
        return seen[0]

    def begin(self, step: int, config: ModelConfig, clips: Sequence[Clip], seen: Seen) -> None:
        """Make the folder ready for the steps after ``step``; note which clips it is trained on, and was.

        From step 0 on, whatever an older run left is removed, its backbone too: new prompts must not
        come to lie on it. Later, what was logged after the last state is dropped. What killed processes were
        writing is removed: this one alone writes here.
        """
        if distributed.rank():
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for part in (p for p in self.path.iterdir() if PART.fullmatch(p.name)):
                part.unlink(missing_ok=True)
            if step == 0:
                stale = {*OURS, *_backbone_file(config)}
                with suppress(CheckpointError):  # no model there, or none that can be read
                    stale.update(_backbone_file(read_config(self.path)))
                for name in stale - {FOLDS}:
                    (self.path / name).unlink(missing_ok=True)
                shutil.rmtree(self.path / TOKENIZER_FOLDER, ignore_errors=True)
        except OSError as error:
            raise write_error(self.path, error) from error
        write_seen(self.path, clips, seen)
        log = self.path / METRICS_FILE
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write_text(log, "".join(f"{line}\n" for line in kept))

    def log(self, record: dict[str, Any]) -> None:
        """Add a line to the metrics; raises CannotWrite."""
        if distributed.rank():
            return
        append_line(self.path / METRICS_FILE, json.dumps(record))

    def write_model(self, config: ModelConfig, model: Stop | None, files: ModelFiles) -> None:
        """Write the model as it stands; a backbone and a tokenizer of its own come along, once.

        Without a ``model``, its prompts stay as they are in the ``files``, to the byte.
        """
        if distributed.rank():
            return
        for name in _backbone_file(config):
            file = self.path / name
            if not file.exists() or known_hash(file) != config.backbone_sha256:
                with replacing(file) as part:
                    shutil.copyfile(files.backbone, part)
        if files.words is not None and files.words.name == TOKENIZER_FOLDER:
            make_folder(self.path / TOKENIZER_FOLDER)
            for name in TOKENIZER_FILES:
                if (files.words / name).is_file():
                    with replacing(self.path / TOKENIZER_FOLDER / name) as part:
                        shutil.copyfile(files.words / name, part)
        if model is None and files.prompts is not None:
            with replacing(self.path / WEIGHTS_FILE) as part:
                shutil.copyfile(files.prompts, part)
        save(self.path, config, model)

    def keep_best(self) -> None:
        """Keep the best weights until the run's end: the model's file will hold others, made from them."""
        best, weights = self.path / BEST_FILE, self.path / WEIGHTS_FILE
        if distributed.rank() == 0 and not best.exists() and weights.exists():
            with replacing(best) as part:
                shutil.copyfile(weights, part)

    def load_best(self, model: Stop) -> None:
        """Give the model the best weights, where its parameters are."""
        from safetensors.torch import load_file

        if not list(model.prompts.parameters()):
            return
        if distributed.rank() == 0:
            kept = self.path / BEST_FILE
            file = kept if kept.exists() else self.path / WEIGHTS_FILE
            model.prompts.load_state_dict(load_file(file))
        distributed.broadcast(model.prompts.parameters())

    def write_predictions(self, judged: Sequence[tuple[Row, str, float]]) -> None:
        """Write what each held-out clip was taken for, and its score from 0 to 1: the mistakes first."""
        if distributed.rank():
            return
        text = io.StringIO(newline="")
        out = csv.writer(text, lineterminator="\n")
        out.writerow(("path", "start", "end", "label", "predicted", "score", "split"))
        for row, answer, share in sorted(judged, key=lambda one: (one[0].text == one[1], -one[2])):
            place, texts = (safe_path(str(row.path)), row.start, row.end), map(no_formula, (row.text, answer))
            out.writerow((*place, *texts, f"{share:.4f}", row.split))
        write_text(self.path / PREDICTIONS_FILE, text.getvalue())

    def end(self, config: ModelConfig) -> Finetuned:
        """Write the card, which says that the run is finished, drop its state; return what it came to."""
        if distributed.rank():
            return self.result(config)
        write_text(self.path / CARD_FILE, model_card(self.path.resolve().name, config.to_dict()))
        shutil.rmtree(self.path / FOLDS, ignore_errors=True)
        self.state_file.unlink(missing_ok=True)
        (self.path / BEST_FILE).unlink(missing_ok=True)
        return self.result(config)

    def result(self, config: ModelConfig) -> Finetuned:
        """Return what the run came to, by the config of its model."""
        training, metrics = config.extra["training"], config.extra["metrics"]
        task: Task = "classification" if config.labels else "retrieval"
        metric = METRIC[task]

        def score(split: str) -> float | None:
            return metrics.get(split, {}).get(metric)  # type: ignore[no-any-return]

        return Finetuned(
            path=str(self.path),
            task=task,
            metric=metric,
            validation=score("validation"),
            validation_plain=score("validation, plain CLIP"),
            test=score("test"),
            test_plain=score("test, plain CLIP"),
            steps=training.get("steps", training["settings"]["steps"]),
            seconds=training["seconds"],
            head=head_name(config),
            validation_interval=_pair(training, "validation"),
            test_interval=_pair(training, "test"),
            clips={split: training["data"][f"{split} clips"] for split in SPLITS},
            cross_validation=_cross_validation(training),
            other_labels=training.get("other_labels"),
            zero_shot=training.get("zero_shot"),
            advice=tuple(training.get("advice", ())),
        )


def _is_ours(folder: Path) -> bool:
    """Say whether a model or a run lies here; a README, a picture or a table may be anyone's."""
    if any(exists(folder / name) for name in SIGNS):
        return True
    try:
        config = read_json(folder / CONFIG_FILE)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and {"format", "backbone"} <= set(config)  # of any version


def _made(folder: Path) -> dict[str, Any]:
    """Return what the model that lies here says of its training, if it says anything."""
    try:
        made = read_json(folder / CONFIG_FILE)["training"]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return made if isinstance(made, dict) else {}


def require_same_settings(folder: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise UsageError, with each change, where a run in ``folder`` was begun with other settings."""
    changes = [f"{k} was {then.get(k)!r}, now {now[k]!r}" for k in now if now[k] != then.get(k)]
    if changes:
        problem = f"cannot resume with other settings: {'; '.join(changes)}"
        raise UsageError(f"{folder}: {problem}; use --force to start over")


def _pair(training: dict[str, Any], split: str) -> Interval | None:
    low_high = training.get("intervals", {}).get(split)
    return None if low_high is None else (low_high[0], low_high[1])


def _cross_validation(training: dict[str, Any]) -> CrossValidation | None:
    found = training.get("cross_validation")
    return None if found is None else CrossValidation(**found | {"interval": tuple(found["interval"])})


def head_name(config: ModelConfig) -> str:
    """Say what the labels are recognized by."""
    if config.head is None:
        return "text"
    share = config.head["share"]
    return "prototypes" if share == 1 else f"mix of {share:.0%} prototypes and {1 - share:.0%} text"


def own_backbone(weights: str) -> str:
    """Return where a run's model has its backbone: as another model has, but under none of our names."""
    return "file:backbone.safetensors" if weights.removeprefix("file:") in OURS else weights


def _backbone_file(config: ModelConfig) -> list[str]:
    """Return the name of the backbone's file where it lies in the model folder, else nothing."""
    return [config.weights.removeprefix("file:")] if config.weights.startswith("file:") else []
