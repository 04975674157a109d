"""Lay out generated clips as MSR-VTT lays out its own: ``python -m training.msrvtt.rehearse OUT``.

For trying the recipe of docs/models/train-msrvtt.md from end to end without the data set: OUT/videos/,
OUT/MSRVTT_data.json, OUT/MSRVTT_train.9k.csv and OUT/MSRVTT_JSFUSION_test.csv, with mini's clips.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from training.world.clips import train_clips
from training.world.files import write_clips
from training.world.motion import CLIPS
from training.world.vocabulary import MOTIONS

SEED = 11


def main() -> None:
    """Write the videos and the three files of annotations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--test", type=int, default=50)
    args = parser.parse_args()
    clips = list(train_clips(args.videos, SEED, CLIPS))
    paths = write_clips(args.out / "videos", clips)
    names = [f"video{i}" for i in range(len(paths))]
    for path, name in zip(paths, names, strict=True):
        path.rename(path.with_name(f"{name}.mp4"))
    captions = [[f"{c.obj} {p}" for p in MOTIONS[c.motion]] for c in clips]
    seen: set[str] = set()
    test = []
    for i, texts in enumerate(captions):  # a caption each, no two the same
        if texts[0] not in seen and len(test) < args.test:
            seen.add(texts[0])
            test.append(i)
    sentences = [
        {"video_id": n, "caption": t} for n, texts in zip(names, captions, strict=True) for t in texts
    ]
    (args.out / "MSRVTT_data.json").write_text(json.dumps({"videos": [], "sentences": sentences}))
    with (args.out / "MSRVTT_train.9k.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["video_id"], *([n] for i, n in enumerate(names) if i not in test)])
    with (args.out / "MSRVTT_JSFUSION_test.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("key", "vid_key", "video_id", "sentence"))
        writer.writerows((f"ret{k}", f"msr{i}", names[i], captions[i][0]) for k, i in enumerate(test))


if __name__ == "__main__":
    main()
