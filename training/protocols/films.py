"""Films of moments, laid out as QVHighlights and Charades-STA: ``python -m training.protocols.films OUT``.

Each film shows eight objects of mini's generated world one after the other, 4 s each; a sentence says of each
what it is and how it moves. Writes OUT/films, OUT/highlight_val_release.jsonl and OUT/charades_sta_test.txt.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.world.clips import Clip, Format, render
from training.world.files import write_files
from training.world.vocabulary import MOTION_NAMES, OBJECT_NAMES, caption

if TYPE_CHECKING:
    from PIL import Image

FILMS, PARTS, SECONDS, FPS, SIZE = 25, 8, 4, 10, 128


def parts_of(number: int) -> list[Clip]:
    """Draw what a film shows: objects and motions, none twice."""
    rng = np.random.default_rng([77, number])
    objects = rng.permutation(len(OBJECT_NAMES))[:PARTS]
    motions = rng.integers(0, len(MOTION_NAMES), PARTS)
    seeds = rng.integers(1 << 40, size=PARTS)
    return [
        Clip(int(s), OBJECT_NAMES[o], MOTION_NAMES[m], test=True)
        for s, o, m in zip(seeds, objects, motions, strict=True)
    ]


def film(number: int) -> tuple[list[Image.Image], Format]:
    """Draw a film: each part is played for as long as every other."""
    frames: list[Image.Image] = []
    for clip in parts_of(number):
        drawn, fmt = render(clip)
        chosen = np.linspace(0, len(drawn) - 1, SECONDS * FPS).round().astype(int)
        frames += [drawn[i].resize((SIZE, SIZE)) for i in chosen]
    return frames, replace(fmt, width=SIZE, height=SIZE, fps=FPS, crf=20)


def main() -> None:
    """Render the films and write what is asked of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    (args.out / "films").mkdir(parents=True, exist_ok=True)
    names = [f"film{i:02d}" for i in range(FILMS)]
    write_files(
        {args.out / "films" / f"{name}.mp4": partial(film, i) for i, name in enumerate(names)}, args.workers
    )
    qv, charades = [], []
    for i, name in enumerate(names):
        for k, clip in enumerate(parts_of(i)):
            start, end, text = k * SECONDS, (k + 1) * SECONDS, caption(clip.obj, clip.shown)
            row = {"qid": len(qv), "query": text, "duration": PARTS * SECONDS, "vid": name}
            qv.append(json.dumps(row | {"relevant_windows": [[start, end]]}))
            charades.append(f"{name} {start:.1f} {end:.1f}##{text}")
    (args.out / "highlight_val_release.jsonl").write_text("\n".join(qv) + "\n")
    (args.out / "charades_sta_test.txt").write_text("\n".join(charades) + "\n")


if __name__ == "__main__":
    main()
