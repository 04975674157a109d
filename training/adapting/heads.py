"""Every way to recognize labels: ``python -m training.adapting.heads MODEL TABLE --shots K``.

Prints, as JSON, how many percent of the table's test clips are right: by the labels' words, by what was
learnt of them from the training clips (`stop finetune --head auto`), and by the simplest adapters. The clips
are those that `stop finetune` takes with the same --shots and --seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from stopcli.data.labels import prompts_for
from stopcli.data.split import few_shots, with_validation
from stopcli.data.table import read_dataset
from stopcli.eval.adapters import simple_heads
from stopcli.hub.registry import resolve
from stopcli.runtime.encoder import Encoder
from stopcli.settings import cache_folder
from stopcli.train.batches import ClipReader
from stopcli.train.scoring.judge import Judge
from stopcli.video.cache import FrameCache


def main() -> None:
    """Score all heads on the test clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("table", type=Path)
    parser.add_argument("--shots", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--template", default="a video of {}")
    args = parser.parse_args()
    encoder = Encoder(resolve(args.model))
    data = few_shots(with_validation(read_dataset(args.table), args.seed), args.shots, args.seed)
    sentences = prompts_for(data.labels, encoder.files.config, args.template)
    reader = ClipReader(FrameCache(cache_folder() / "frames"), encoder.frames, encoder.framing)
    judge = Judge(reader, dict(zip(data.labels, sentences, strict=True)), by_class=True)
    training, validation, test = (data.of(split) for split in ("train", "val", "test"))
    trained, vectors = encoder.files.config.stop is not None, judge.embed(encoder, test)
    scores = {}

    def score(name: str) -> None:
        scores[name] = round(judge.score(encoder, vectors, test).scores["top-1"], 2)

    held_out = (judge.embed(encoder, validation), validation) if validation else None
    encoder.head = None
    score("text")
    for kind in ("auto", "prototype"):
        judge.learn_labels(encoder, training, held_out, kind, trained=trained)
        score(kind)
    clips = judge.embed(encoder, training)
    heads = simple_heads(data.labels, judge.texts(encoder), clips, judge.truth(training))
    for name, encoder.head in heads.items():
        score(name)
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
