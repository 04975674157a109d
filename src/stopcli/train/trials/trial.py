"""Few-shot and base-to-novel: a model for each number of clips and each seed, and what it knows in the end.

Two scores always, named so: of the last epoch, which chose nothing; and of the best epoch, as papers print
it, which is picked on the clips of the (base) test and is too good by that. Labels are recognized by their
text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from stopcli.data.labels import prompts_for
from stopcli.data.protocols.trials import Protocol, Test, Trial, require_whole
from stopcli.data.seen import Seen, read_seen
from stopcli.data.table import Dataset, Row
from stopcli.errors import StopError
from stopcli.eval.accuracy import method_name
from stopcli.fileio import alone, read_json, to_json, write_text
from stopcli.model.files import ModelFiles
from stopcli.results import Failure
from stopcli.results.measured import TrialScore
from stopcli.settings import cache_folder
from stopcli.train.batches import ClipReader
from stopcli.train.finetune import fit, load_trainable
from stopcli.train.options import FinetuneOptions, TrainingCallback
from stopcli.train.run import FinetuneRun
from stopcli.train.run_folder import RunFolder
from stopcli.train.scoring.judge import Judge
from stopcli.train.scoring.retention import SHARES, weights_of
from stopcli.train.trials.published import published
from stopcli.video.cache import FrameCache
from stopcli.video.workers.prefetch import prefetch

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder, EncoderOptions

Scores = dict[str, float]
DONE = "trial.json"
LAST, BEST, PLAIN = "last epoch", "best epoch", "untrained"


@dataclass
class Trials:
    """The models of a protocol, made one after the other; ``folder`` keeps each, and what it came to."""

    base: ModelFiles
    protocol: Protocol
    options: FinetuneOptions
    encoder_options: EncoderOptions
    folder: Path
    callback: TrainingCallback
    mix: bool = False
    force: bool = False

    def run(self) -> tuple[list[TrialScore], list[Failure]]:
        """Train and ask; return the rows, published ones last, and the clips that cannot be read.

        What the folder holds of an earlier run of the same kind is taken from there.

        Raises BadDataset where a class has no clip to train on; and as `finetune`.
        """
        self.options = replace(self.options, head="text")
        plain = self._encoder(0).without_prompts()
        self._reader = ClipReader(FrameCache(cache_folder() / "frames"), plain.frames, plain.framing)
        self._seen = Seen() if self.base.folder is None else read_seen(self.base.folder)
        failures = self._without_faults()
        require_whole(self.protocol)
        rows: dict[tuple[int, str], dict[int, Scores]] = {}
        with alone(self.folder):
            untrained = self._ask(plain)
            for trial in self.protocol.trials:
                self.callback.noted(f"{trial.shots} clips a class, seed {trial.seed}")
                for weights, scores in self._trial(trial).items():
                    rows.setdefault((trial.shots, weights), {})[trial.seed] = scores
        stop = self._stop
        made = [self._row("plain CLIP", None, PLAIN, {0: untrained})]
        made += [self._row(stop, shots, weights, seeds) for (shots, weights), seeds in rows.items()]
        shots = list(dict.fromkeys(t.shots for t in self.protocol.trials))
        return made + published(self.protocol.kind, self.protocol.dataset, shots), failures

    def _encoder(self, seed: int) -> Encoder:
        options = replace(self.options, seed=seed)
        encoder = load_trainable(self.base, options, self.encoder_options, self.callback)
        self._stop = method_name(encoder.files.config.stop)
        self._how = encoder.describe()
        return encoder

    def _without_faults(self) -> list[Failure]:
        """Read every clip into the cache; leave out those that cannot be read or were trained on before."""
        clips = list(dict.fromkeys(item.clip for item in self.protocol.items))
        faults: dict[Any, StopError] = {}
        self.callback.decoding(len(clips))
        for clip, item in prefetch(lambda clip: [self._reader.read(clip)], clips):
            if isinstance(item, StopError):
                faults[clip] = item
            self.callback.decoded(clip[0])
        known = {clip for clip in clips if self._seen.has(clip)}
        if known:
            self.callback.noted(f"{len(known)} clips are left out: {self.base.name} was trained on them")
        bad = faults.keys() | known
        p = self.protocol
        trials = tuple(t._replace(training=_without(t.training, faults.keys())) for t in p.trials)
        tests = {name: test._replace(items=_without(test.items, bad)) for name, test in p.tests.items()}
        self.protocol = replace(p, trials=trials, tests=tests)
        return [Failure.of(clip[0], fault) for clip, fault in faults.items()]

    def _trial(self, trial: Trial) -> dict[str, Scores]:
        """Train one model, or take what is known of it; return its scores by which weights are asked."""
        folder = self.folder / f"{trial.shots}-clips-seed-{trial.seed}"
        first = next(iter(self.protocol.tests.values()))
        rows = [*_rows(trial.training, "train"), *_rows(first.items, "val", len(trial.training))]
        data = Dataset(Path(self.protocol.dataset), "classification", tuple(rows))
        options = replace(self.options, seed=trial.seed)
        origin = {
            "base": self.base.name,
            "origin": self.base.origin,
            "base_weights": self.base.weights_hash(),
        }
        run = FinetuneRun(
            self._encoder(trial.seed), data, self._reader, RunFolder(folder), options, origin, self._seen
        )
        key = json.loads(
            to_json(
                {
                    "fingerprint": run.fingerprint,
                    "mix": self.mix,
                    "asked": self._asked,
                    "precision": run.encoder.precision,
                }
            )
        )
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            known = read_json(folder / DONE)
            if known["key"] == key and not self.force:
                return {str(w): {str(n): float(v) for n, v in s.items()} for w, s in known["scores"].items()}
        run.folder.check(resume=not self.force, force=self.force)
        fit(run, self.callback, resume=not self.force)
        scores = {LAST: self._ask(run.encoder)}
        if self.mix and run.retention is not None:
            tuned = weights_of(run.encoder)
            for share in (*SHARES[1:], 1.0):
                run.retention.mix(run.encoder, tuned, share)
                scores[f"{LAST}, {100 * share:.0f} % untrained"] = self._ask(run.encoder)
            run.retention.mix(run.encoder, tuned, 0.0)
        run.folder.load_best(run.encoder.model)
        scores[BEST] = self._ask(run.encoder)
        write_text(folder / DONE, to_json({"key": key, "scores": scores}, 2) + "\n")
        return scores

    @property
    def _asked(self) -> dict[str, list[list[object]]]:
        return {
            name: [*self._reader.content_of(i.clip for i in test.items), [i.texts[0] for i in test.items]]
            for name, test in self.protocol.tests.items()
        }

    def _ask(self, encoder: Encoder) -> Scores:
        """Return the share of clips, in percent, that get their label among those of their test."""
        found = {name: self._top1(encoder, test) for name, test in self.protocol.tests.items()}
        if self.protocol.kind == "few-shot":
            return {"top-1": found["test"]}
        base, novel = found["base"], found["novel"]
        return found | {"harmonic mean": 2 * base * novel / (base + novel) if base + novel else 0.0}

    def _top1(self, encoder: Encoder, test: Test) -> float:
        sentences = prompts_for(test.labels, encoder.files.config, self.options.template)
        judge = Judge(self._reader, dict(zip(test.labels, sentences, strict=True)), by_class=True)
        result = judge.evaluate(encoder, _rows(test.items, "test"))
        assert result is not None
        return result.scores["top-1"]

    def _row(self, method: str, shots: int | None, weights: str, seeds: dict[int, Scores]) -> TrialScore:
        p, names = self.protocol, next(iter(seeds.values()))
        mean = {name: fmean(scores[name] for scores in seeds.values()) for name in names}
        each = {} if shots is None else seeds
        clips = sum(len(test.items) for test in p.tests.values())
        how = self._how | {"protocol": p.description, "settings": asdict(self.options)}
        return TrialScore(method, p.dataset, p.kind, shots, weights, mean, each, clips, False, how)


def _rows(items: Sequence[Any], split: str, first: int = 0) -> list[Row]:
    return [
        Row(first + n, item.path, item.texts[0], item.start, item.end, split) for n, item in enumerate(items)
    ]


def _without(items: Sequence[Any], clips: Any) -> tuple[Any, ...]:
    return tuple(item for item in items if item.clip not in clips)
