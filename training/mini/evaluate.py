"""Measure a model on held-out clips: ``python -m training.mini.evaluate [--model mini] [-o FILE]``.

500 clips of object-motion pairs that training never saw, on backgrounds it never saw, read from
real H.264 files; each of the reversible ones is there forwards and backwards. The same backbone
without prompts is measured beside it: mean-pooled frames cannot know the order.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from stopcli.eval.metrics import ranks_of
from stopcli.hub.registry import resolve
from stopcli.results import EncodedClip
from stopcli.runtime.encoder import Encoder, EncoderOptions
from training.world.clips import retrieval_clips, test_clips
from training.world.files import TEST_SEED, write_clips
from training.world.vocabulary import MOTION_NAMES, OBJECT_NAMES, PAIRS, caption


def embed(encoder: Encoder, paths: list[Path]) -> np.ndarray:
    """Return the clips' vectors (N,E)."""
    items = list(encoder.encode_videos(paths))
    assert all(isinstance(i, EncodedClip) for i in items)
    return np.stack([i.vector for i in items])


def measure(encoder: Encoder, data: Path, count: int, seed: int = TEST_SEED) -> dict[str, object]:
    """Return shares that are right, over about ``count`` clips and 200 queries."""
    captions = [(o, m) for o in OBJECT_NAMES for m in MOTION_NAMES]
    texts = encoder.encode_texts([caption(o, m) for o, m in captions])
    clips = list(test_clips(count, seed))
    vectors = embed(encoder, write_clips(data / f"test-{seed}", clips))
    best = (vectors @ texts.T).argmax(1)
    right_object = np.array([captions[b][0] == c.obj for b, c in zip(best, clips, strict=True)])
    right_motion = np.array([captions[b][1] == c.shown for b, c in zip(best, clips, strict=True)])
    rows = {pair: i for i, pair in enumerate(captions)}
    inside = {}
    for a, b in PAIRS:
        of_pair = [(v, c) for v, c in zip(vectors, clips, strict=True) if c.shown in (a, b)]
        scores = [
            (v @ texts[rows[c.obj, a]] > v @ texts[rows[c.obj, b]]) == (c.shown == a) for v, c in of_pair
        ]
        inside[f"{a}/{b}"] = round(float(np.mean(scores)), 4)
    targets = list(retrieval_clips(200, seed + 1))
    videos = embed(encoder, write_clips(data / f"retrieval-{seed}", targets))
    queries = encoder.encode_texts([caption(c.obj, c.motion) for c in targets])
    ranks = ranks_of(queries @ videos.T, np.arange(len(targets)))
    return {
        "clips": len(clips),
        "object_top1": round(float(right_object.mean()), 4),
        "motion_top1": round(float(right_motion.mean()), 4),
        "motion_by_name": {
            m: round(float(right_motion[[c.shown == m for c in clips]].mean()), 4) for m in MOTION_NAMES
        },
        "inside_pairs": inside,
        "text_to_video": {f"R@{k}": round(float((ranks <= k).mean()), 4) for k in (1, 5, 10)}
        | {"clips": len(targets)},
    }


def main() -> None:
    """Measure the model, and its backbone without prompts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument(
        "--data", type=Path, help="where the clips are, or are made; default: a temporary folder"
    )
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument(
        "--seed", type=int, default=TEST_SEED, help="2 gives the clips that choices were made on"
    )
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    files = resolve(args.model)
    models = {"plain": replace(files, config=replace(files.config, stop=None))}
    if files.config.stop is not None:
        models = {"stop": files} | models
    scores = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, model in models.items():
            encoder = Encoder(model, EncoderOptions(precision=args.precision, batch_size=16))
            measured = measure(encoder, args.data or Path(scratch), args.count, args.seed)
            provenance = encoder.describe() | {"model": Path(model.name).name}
            scores[name] = measured | {"provenance": provenance}
            print(name, json.dumps(scores[name], indent=1), flush=True)
    if args.output:
        args.output.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
