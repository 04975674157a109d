"""What focus gains and costs without training: ``python -m training.evidence.focus MODEL OUT -o FILE``.

MODEL has no prompts. OUT/tasks must hold the tasks of training.evidence.scenes, OUT/data the clips of
training.mini.evaluate. For each strength, in percent:

- ``mover``: the mover is picked among four things on show (chance 25), camera still and moving;
- ``all four``: how many of the four things on show are among the four nearest of the 48 names;
- ``bystander``: a thing that stands still is picked before the mover, where only these two are compared;
- ``object``: the one object of a clip is named, among 48, where it stands still and where it moves.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from stopcli.hub.registry import resolve
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.video.clips import read_frames
from training.evidence.selection import picked
from training.world.clips import test_clips
from training.world.vocabulary import OBJECT_NAMES

STRENGTHS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
CHOICE_SEED = 2  # of clips that choices may be made on


def measure(encoder: Encoder, clips: dict[str, np.ndarray], out: Path) -> dict[str, float]:
    """Return the scores of one strength; clips are frames (N,T,S,S,3) by name."""
    texts = encoder.encode_texts(OBJECT_NAMES)
    scores: dict[str, float] = {}
    for task in ("which", "which-camera"):
        scenes = _scenes(out, task)
        cosines = encoder.encode_pixels(clips[task]) @ texts.T
        on = np.array([[OBJECT_NAMES.index(o) for o in scene["objects"]] for scene in scenes])
        scores[f"{task}: mover"] = float(np.mean(picked(cosines, scenes)))
        best = np.argsort(-cosines, 1)[:, :4]
        scores[f"{task}: all four"] = float((best[:, :, None] == on[:, None]).any(1).mean())
        of = np.take_along_axis(cosines, on, 1)
        scores[f"{task}: bystander"] = float((of[:, 1:] > of[:, :1]).mean())
    shown = list(test_clips(500, CHOICE_SEED))
    right = (encoder.encode_pixels(clips["world"]) @ texts.T).argmax(1) == [
        OBJECT_NAMES.index(c.obj) for c in shown
    ]
    still = np.array([c.motion == "still" for c in shown])
    scores |= {"object, still": float(right[still].mean()), "object, moving": float(right[~still].mean())}
    return {name: round(100 * value, 1) for name, value in scores.items()}


def _scenes(out: Path, task: str) -> list[dict]:
    scenes = json.loads((out / "tasks" / task / "scenes.json").read_text())
    return [scene for name, scene in scenes.items() if name.startswith("new")]


def main() -> None:
    """Measure every strength."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    files, options = resolve(args.model), EncoderOptions(precision="fp32", batch_size=20)
    plain = Encoder(files, options)
    sources = {
        "which": sorted((args.out / "tasks" / "which").glob("new-*.mp4")),
        "which-camera": sorted((args.out / "tasks" / "which-camera").glob("new-*.mp4")),
        "world": sorted((args.out / "data" / f"test-{CHOICE_SEED}").glob("*.mp4")),
    }
    clips = {
        name: np.stack([read_frames(p, plain.frames, plain.framing, threads=1).pixels for p in paths])
        for name, paths in sources.items()
    }
    scores = {}
    for strength in STRENGTHS:
        scores[strength] = measure(Encoder(replace(files, focus=strength), options), clips, args.out)
        print(strength, scores[strength], flush=True)
    args.output.write_text(json.dumps(scores) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
