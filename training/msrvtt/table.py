"""Turn MSR-VTT's own files into a table for ``stop finetune``.

    python -m training.msrvtt.table --data MSRVTT_data.json --train MSRVTT_train.9k.csv \
        --test MSRVTT_JSFUSION_test.csv --videos all/ -o msrvtt.csv

The 9k training videos keep their 20 captions each; the 1k-A test videos keep the one caption that
the protocol asks for, as split ``test``. ``--held`` training videos (drawn by the seed) become
``val``: the weights are chosen on them, never on the test.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
from collections import defaultdict
from pathlib import Path


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--held", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    captions = defaultdict(list)
    for sentence in json.loads(args.data.read_text(encoding="utf-8"))["sentences"]:
        captions[sentence["video_id"]].append(sentence["caption"])
    with args.train.open(newline="") as stream:
        train = [row["video_id"] for row in csv.DictReader(stream)]
    with args.test.open(newline="") as stream:
        test = [(row["video_id"], row["sentence"]) for row in csv.DictReader(stream)]
    if both := set(train) & {video for video, _ in test}:
        raise SystemExit(f"{len(both)} videos are in training and in test, such as {min(both)}")
    validation = set(random.Random(args.seed).sample(sorted(train), args.held))
    files = {p.stem: os.path.relpath(p, args.output.parent) for p in args.videos.rglob("*") if p.is_file()}
    missing = 0
    with args.output.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "caption", "split"))
        rows = [
            (v, c, "val" if v in validation else "train") for v in train for c in dict.fromkeys(captions[v])
        ]
        for video, caption, split in [*rows, *((v, c, "test") for v, c in test)]:
            if video in files:
                writer.writerow((files[video], caption, split))
            else:
                missing += 1
    print(
        f"{args.output}: {len(train) - len(validation)} videos to train on, {len(validation)} val, "
        f"{len(test)} test; {missing} rows skipped, their videos are not in {args.videos}"
    )


if __name__ == "__main__":
    main()
