"""Does STOP look where things move, and does it matter?

    python -m training.evidence.selection MODEL OUT/tasks/which [--clips 400]
    python -m training.evidence.selection MODEL VIDEO|DIR... --energy

On a task of training.evidence.scenes: how often the mover is picked among the things on show (chance 25 %),
with the model's own regions, with random ones, and with all patches alike; and which share of the regions
lies on the mover. On any videos, with ``--energy``: which share of the change between frames the regions
catch. Both shares are scaled so that 0 is chance and 1 the best choice, and are given block by block.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stopcli.hub.registry import resolve
from stopcli.model.stop import Stop
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.runtime.graphs import one_by_one
from stopcli.video.clips import Frames, read_frames
from stopcli.video.discovery import find_videos
from training.world.vocabulary import OBJECT_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

BATCH = 20


def shuffled(scores: Tensor) -> Tensor:
    """Give each frame's region scores to other patches of it, at random."""
    return scores.gather(-1, torch.rand_like(scores).argsort(-1))


CHOICES: dict[str, Callable[[Tensor], Tensor]] = {
    "own": lambda scores: scores,
    "random": shuffled,
    "all alike": torch.zeros_like,
}


def lift(caught: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Scale what regions catch: 0 is chance, 1 the best choice of as many patches.

    Args:
        caught: (L,B,T,P) bool, the regions of each block.
        weight: (B,T,P), what there is to catch.

    Returns:
        (L,), the mean over the frames in which there is anything to choose.
    """
    count = caught[0, 0, 0].sum()
    total = weight.sum(-1)
    best = np.sort(weight, -1)[..., -count:].sum(-1)
    chance = total * count / weight.shape[-1]
    some = best - chance > 1e-6 * (1 + total)
    out = ((caught * weight).sum(-1) - chance) / np.where(some, best - chance, 1.0)
    return (out * some).sum((1, 2)) / max(1, some.sum())


def on_mover(places: np.ndarray, size: float, grid: tuple[int, int]) -> np.ndarray:
    """Return which share of each patch the mover's square covers: (T,2) -> (T,P)."""
    out = []
    for axis, n in ((1, grid[0]), (0, grid[1])):
        low = np.arange(n) / n
        begin, end = (places[:, axis, None] + s * size / 2 for s in (-1, 1))
        out.append((np.minimum(low + 1 / n, end) - np.maximum(low, begin)).clip(0) * n)
    return (out[0][:, :, None] * out[1][:, None]).reshape(len(places), -1)


def on_task(encoder: Encoder, task: Path, limit: int) -> dict[str, Any]:
    """Score a model on the test clips of a task."""
    scenes = json.loads((task / "scenes.json").read_text())
    texts = encoder.encode_texts(OBJECT_NAMES)
    stop = encoder.files.config.stop
    spatial = stop is not None and stop.spatial == "dynamic"
    known = encoder.model.region_scores
    out: dict[str, Any] = {}
    for split in dict.fromkeys(name.partition("-")[0] for name in scenes):
        names = [n for n in scenes if n.startswith(split)][:limit]
        clips = [read_frames(task / n, encoder.frames, encoder.framing, threads=1) for n in names]
        pixels = np.stack([c.pixels for c in clips])
        scores: dict[str, Any] = {}
        for name, change in CHOICES.items():
            if name != "own" and not (spatial and split == "new"):
                continue
            torch.manual_seed(0)
            encoder.model.region_scores = lambda *a, change=change: change(known(*a))  # type: ignore[method-assign]
            with one_by_one():  # no recording with other scores is played
                vectors = encoder.encode_pixels(pixels)
            scores[name] = round(
                100 * float(np.mean(picked(vectors @ texts.T, [scenes[n] for n in names]))), 1
            )
        encoder.model.region_scores = known  # type: ignore[method-assign]
        if spatial and split == "new":
            weight = np.stack([mover_of(encoder, c, scenes[n]) for n, c in zip(names, clips, strict=True)])
            scores["regions on the mover, by block"] = (
                lift(regions(encoder, pixels), weight).round(3).tolist()
            )
        out[split] = scores
    return out


def picked(cosines: np.ndarray, scenes: list[dict]) -> list[bool]:
    """Say for each clip (cosines with all objects: (N,48)) whether the mover is nearest of what is shown."""
    shown = [[OBJECT_NAMES.index(o) for o in scene["objects"]] for scene in scenes]
    return [int(row[on].argmax()) == 0 for row, on in zip(cosines, shown, strict=True)]


def mover_of(encoder: Encoder, clip: Frames, scene: dict) -> np.ndarray:
    """Return how much of each patch is the mover, in the frames that were read: (T,P)."""
    places = np.array(scene["places"])
    shown = (clip.times * len(places) / clip.end).round().astype(int).clip(0, len(places) - 1)
    return on_mover(places[shown], scene["size"], encoder.grid)


def regions(encoder: Encoder, pixels: np.ndarray) -> np.ndarray:
    """Return the regions of clips (B,T,S,S,3) in every block: (L,B,T,P) bool."""
    traces = [encoder.trace(pixels[i : i + BATCH]).regions.numpy() for i in range(0, len(pixels), BATCH)]
    return np.concatenate(traces, 1)


def energy_lift(encoder: Encoder, paths: list[Path]) -> dict[str, Any]:
    """Return the lift of the change between frames that regions catch, block by block."""
    rows, columns = encoder.grid
    clips = np.stack([read_frames(p, encoder.frames, encoder.framing, threads=1).pixels for p in paths])
    change = np.abs(np.diff(clips.astype(np.float32), axis=1)).mean(-1)  # (B,G,S,S)
    b, gaps, side = change.shape[:3]
    change = (
        change.reshape(b, gaps, rows, side // rows, columns, side // columns)
        .mean((3, 5))
        .reshape(b, gaps, -1)
    )
    both = np.maximum(np.pad(change, ((0, 0), (1, 0), (0, 0))), np.pad(change, ((0, 0), (0, 1), (0, 0))))
    return {"clips": b, "lift of change, by block": lift(regions(encoder, clips), both).round(3).tolist()}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("what", type=Path, nargs="+")
    parser.add_argument("--energy", action="store_true")
    parser.add_argument("--clips", type=int, default=400, help="of each split, at most")
    args = parser.parse_args()
    encoder = Encoder(resolve(args.model), EncoderOptions(precision="fp32", batch_size=BATCH))
    assert isinstance(encoder.model, Stop)
    if args.energy:
        result = energy_lift(encoder, list(find_videos(args.what)))
    else:
        result = on_task(encoder, args.what[0], args.clips)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
