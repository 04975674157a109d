"""Clips in which one of several things moves: three of the tasks of training.evidence.tasks.

Four of mini's objects stand in the four quarters of the picture, and one of them moves. Three tasks:

- ``which``: what moves? The label is the mover. Training shows movers of one half of the objects, among all
  of them; the test has unseen backgrounds and movers of the other half, so that what is learnt must be
  "look where it moves" and not "this change is a dog".
- ``which-camera``: the same, filmed by a camera that pans, zooms, turns and shakes. Its test clips "pan" are
  filmed by a camera that pans and does nothing else.
- ``where``: in which half of the picture does it move? The labels, "moving left" and "moving right", are
  words that the text tower tells apart; here they name places.

Writes OUT/NAME/*.mp4, OUT/NAME/data.csv for ``stop finetune`` and OUT/NAME/scenes.json: for each test clip
its objects and the mover's place in every frame.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.world.backgrounds import PLAIN, UNSEEN, background
from training.world.clips import Format, file_format
from training.world.files import write_files
from training.world.sprites import load_sprites, sprite_at, tinted
from training.world.vocabulary import MOTIONS, OBJECT_NAMES

KNOWN, NEW = OBJECT_NAMES[::2], OBJECT_NAMES[1::2]
QUARTERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
ROOM = 1.6  # the scene's sides, in those of the picture: what a moving camera comes to see
CLIPS = {
    "which": {"train": 1600, "val": 96, "test": 400, "new": 400},
    "which-camera": {"train": 1600, "val": 96, "test": 400, "new": 400, "pan": 400},
    "where": {"train": 400, "val": 20, "test": 200},
}


@dataclass(frozen=True)
class Camera:
    """How a camera may move over a clip, at most; ``pan`` and ``shake`` in shares of the picture's side."""

    pan: float = 0.0
    zoom: float = 0.0  # natural logarithm
    turn: float = 0.0  # degrees
    shake: float = 0.0

    def path(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draw a movement: x, y, log zoom and degrees at n instants, (n,4)."""
        s = (np.arange(n) + 0.5) / n - 0.5
        way, pan = rng.uniform(0, 2 * math.pi), rng.uniform(0, self.pan)
        zoom, turn = rng.uniform(-self.zoom, self.zoom), rng.uniform(-self.turn, self.turn)
        out = s[:, None] * np.array([pan * math.cos(way), pan * math.sin(way), zoom, turn])
        shake = rng.uniform(0, self.shake)
        return out + rng.normal(0, 1, (n, 4)) * np.array([shake, shake, 0, 30 * shake])


CAMERAS = {"which-camera": Camera(pan=0.25, zoom=0.25, turn=8, shake=0.02), "pan": Camera(pan=0.25)}


@dataclass(frozen=True)
class Scene:
    """What a clip shows; lengths in the short side of the picture, from its middle."""

    seed: list[int]
    format: Format
    families: tuple[str, ...]  # of the background
    objects: list[str]  # the mover first
    corners: np.ndarray  # (4,2)
    sides: np.ndarray  # (4,)
    course: np.ndarray  # (n,2), the mover's way from its corner
    camera: np.ndarray  # (n,4), see `Camera.path`

    @classmethod
    def of(cls, seed: list[int], movers: tuple[str, ...], families: tuple[str, ...], camera: Camera) -> Scene:
        """Choose everything by a seed."""
        rng = np.random.default_rng([*seed, 0])
        fmt = file_format(rng)
        n = max(16, fmt.frames)
        mover = str(movers[rng.integers(len(movers))])
        others = [str(o) for o in rng.permutation(OBJECT_NAMES) if o != mover]
        s = (np.arange(n) + 0.5) / n - 0.5
        way, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.14, 0.24)
        swing = 0.5 * np.sin(2 * math.pi * (rng.uniform(1, 2) * s + rng.random()))
        course = reach * (swing if rng.random() < 0.25 else s)
        return cls(
            seed=seed,
            format=fmt,
            families=families,
            objects=[mover, *others[:3]],
            corners=rng.permutation(QUARTERS) * rng.uniform(0.22, 0.26, (4, 2)),
            sides=rng.uniform(0.36, 0.44, 4),
            course=course[:, None] * np.array([math.cos(way), math.sin(way)]),
            camera=camera.path(rng, n),
        )

    @property
    def places(self) -> np.ndarray:
        """The mover's middle in each frame, in the middle square of the picture, from 0 to 1: (n,2)."""
        seen = [
            np.linalg.solve(view, place - shift)
            for place, (view, shift) in zip(self.corners[0] + self.course, self._views(), strict=True)
        ]
        return np.array(seen) + 0.5

    def _views(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each frame what turns and stretches it, and where its middle is in the scene."""
        out = []
        for dx, dy, zoom, turn in self.camera:
            a = math.radians(turn)
            view = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) * math.exp(-zoom)
            out.append((view, np.array([dx, dy])))
        return out

    def frames(self) -> tuple[list[Image.Image], Format]:
        """Draw the frames."""
        rng = np.random.default_rng([*self.seed, 1])
        size = np.array([self.format.width, self.format.height])
        unit, middle = size.min(), ROOM * size / 2
        ground = background(rng, *(round(v) for v in ROOM * size), families=self.families)
        sprites = [
            sprite_at(tinted(rng, load_sprites()[o]), round(side * unit), 0.0)
            for o, side in zip(self.objects, self.sides, strict=True)
        ]
        order, frames = rng.permutation(4), []
        for way, (view, shift) in zip(self.course, self._views(), strict=True):
            scene = ground.copy()
            for k in order:
                place = (
                    middle
                    + unit * (self.corners[k] + (way if k == 0 else 0.0))
                    - np.array(sprites[k].size) / 2
                )
                scene.paste(sprites[k], (round(place[0]), round(place[1])), sprites[k])
            corner = middle + unit * shift - view @ (size / 2)
            coefficients = (*view[0], corner[0], *view[1], corner[1])
            frames.append(
                scene.transform(
                    tuple(size.tolist()), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
                )
            )
        return frames, self.format


def scene_of(task: str, split: str, number: int) -> Scene:
    """Return what one clip of a task shows."""
    seed = [list(CLIPS).index(task) + 77, ("train", "val", "test", "new", "pan").index(split), number]
    families = PLAIN if split in ("train", "val") else UNSEEN
    movers = {"new": NEW, "pan": NEW}.get(split, KNOWN) if task != "where" else OBJECT_NAMES
    return Scene.of(seed, movers, families, CAMERAS.get(split) or CAMERAS.get(task, Camera()))


def label_of(task: str, scene: Scene) -> str:
    """Return a scene's label."""
    if task == "where":
        return MOTIONS["left" if scene.corners[0, 0] < 0 else "right"][0]
    return scene.objects[0]


def make(folder: Path, task: str) -> None:
    """Write a task's clips, its table, and what its test clips show."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs, rows, shown = {}, [], {}
    for split, count in CLIPS[task].items():
        for i in range(count):
            name, scene = f"{split}-{i:04d}.mp4", scene_of(task, split, i)
            jobs[folder / name] = scene.frames
            tested = split not in ("train", "val")
            if not tested or task == "where":  # the others are scored by training.evidence.selection
                rows.append((name, label_of(task, scene), split))
            if tested:
                shown[name] = {
                    "objects": scene.objects,
                    "places": scene.places.round(3).tolist(),
                    "size": round(float(scene.sides[0]), 3),
                }
    write_files(jobs)
    (folder / "scenes.json").write_text(json.dumps(shown))
    with (folder / "data.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "split"), *rows])
