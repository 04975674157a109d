"""The folder of a run: a model that every command takes, and beside it how it was made.

Of several processes only the first writes.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from stopcli.errors import FileExists
from stopcli.hub import card
from stopcli.hub.card import CARD_FILE
from stopcli.model.checkpoint import save
from stopcli.model.config import CONFIG_FILE, WEIGHTS_FILE, ModelConfig
from stopcli.train import distributed as parallel
from stopcli.train.trainer import STATE_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from stopcli.model.stop import Stop

METRICS_FILE, CURVE_FILE, CONFUSION_FILE = "metrics.jsonl", "curve.png", "confusion.png"
OURS = (CONFIG_FILE, WEIGHTS_FILE, METRICS_FILE, CARD_FILE, STATE_FILE, CURVE_FILE, CONFUSION_FILE)


class RunFolder:
    """Where a run goes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self, *, resume: bool, force: bool) -> None:
        """Check the place, and clear it if told to.

        Raises:
            FileExists: it is a file, or holds something that nobody said what to do with.
        """
        path = self.path
        if path.exists() and not path.is_dir():
            raise FileExists(f"{path}: is a file; -o names the folder of the model to make")
        held = [p for p in (path / name for name in OURS) if p.exists()] if path.exists() else []
        if held and not resume and not force:
            raise FileExists(
                f"{path}: holds a model already; go on with --resume, begin anew with --force, "
                "or choose another -o"
            )
        if path.exists() and not held and any(path.iterdir()):
            raise FileExists(f"{path}: is not empty and holds no run; choose another -o")
        if force and parallel.rank() == 0:
            for file in held:
                file.unlink()

    @property
    def interrupted(self) -> bool:
        """Whether a run stopped here on its way."""
        return (self.path / STATE_FILE).exists()

    @property
    def finished(self) -> bool:
        """Whether a run came to its end here."""
        return (self.path / CARD_FILE).exists() and not self.interrupted

    def begin(self, step: int) -> None:
        """Make the folder; drop what an interrupted run logged after ``step``, its last state."""
        if parallel.rank():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        log = self.path / METRICS_FILE
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def log(self, record: dict[str, Any]) -> None:
        """Add a line to the metrics."""
        if parallel.rank() == 0:
            with (self.path / METRICS_FILE).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")

    def write_model(self, config: ModelConfig, model: Stop, backbone: Path) -> None:
        """Write the model as it stands; a backbone that lies in a file comes along."""
        if parallel.rank():
            return
        if config.weights.startswith("file:") and not (self.path / config.weights[5:]).exists():
            part = self.path / f".{config.weights[5:]}.part"
            shutil.copyfile(backbone, part)
            os.replace(part, self.path / config.weights[5:])
        save(self.path, config, model)

    def end(self, config: ModelConfig) -> None:
        """Write the card, which says that the run is finished, and drop its state."""
        if parallel.rank():
            return
        part = self.path / f".{CARD_FILE}.part"
        part.write_text(card.model_card(self.path.resolve().name, config.to_dict()), encoding="utf-8")
        os.replace(part, self.path / CARD_FILE)
        (self.path / STATE_FILE).unlink(missing_ok=True)

    def metrics(self) -> dict[str, Any]:
        """Return the scores that the model's config tells."""
        told = json.loads((self.path / CONFIG_FILE).read_text(encoding="utf-8"))
        found: dict[str, Any] = told.get("metrics", {})
        return found
