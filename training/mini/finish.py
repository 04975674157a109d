"""Put the trained parts together: ``python -m training.mini.finish BACKBONE PROMPTS -o MODEL``.

Writes the model folder that ships, prompts in fp16. With --scores, what training.mini.evaluate has
measured goes into config.json, and a card is written.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file

from stopcli.model.config import ModelConfig, read_config
from training.world.vocabulary import MOTION_NAMES, OBJECT_NAMES

TRAINING = {
    "data": "training/world: generated H.264 clips, 32,000 for stills, 8,000 of these for prompts; "
    "384 of 480 object-motion pairs",
    "backbone": "training.mini.pretrain: 2400 + 1000 + 300 + 1300 + 900 steps of 128 stills",
    "prompts": "training.mini.train_prompts: 2000 steps of 32 clips",
    "recipe": "training/mini/make.sh",
    "device": "CPU, 2 cores, bf16 autocast",
}
FIGURES = {"object, top-1": "object_top1", "motion, top-1": "motion_top1"}
CARD = """# mini

**mini knows only its generated world:** {objects} drawn objects (Noto Emoji) in 10 motions. It exists so
that every command works with no network, for tests, and to show what STOP's prompts add. It says nothing
sensible about real footage.

- backbone: an open_clip ViT of 4 blocks, width 192, patch 16, 96 pixels, trained from nothing on stills of
  the world, then frozen; a text tower of 3 blocks; {backbone:.1f} MB
- prompts: STOP, spatial and temporal, {regions:.0%} of the patches as regions, at most {eta} prompts a gap;
  8 frames; {trainable:,} trained parameters, {prompts:.1f} MB
- license: Apache-2.0; training: see `training/mini/` in the repository

## Measured

{clips} held-out clips: object-motion pairs that training never saw, on families of backgrounds that it never
saw, read from H.264 files of varying size, rate and quality. The label is the nearest of 480 captions. The
clips were made when the prompts were finished, and scored once.

| | STOP | the same backbone, frames averaged |
|---|---|---|
{table}

Each reversible clip is there forwards and backwards, so a model that is blind to order scores 50 % inside a
pair. For text to video, the queries are the captions of {videos} clips, no two alike.

```console
python -m training.mini.evaluate --model mini
```

## Limits

"Turning" means turning about the middle of the picture, like the hand of a clock; mini was not trained on
things that spin in place. Its cameras shake a little, and no more. Words that the world does not use have no
effect. Several named objects in one clip, motions that change, and photographs are outside of what it was
trained on. Ten further phrases
("circling", "jumping twice", ...) it knows only as words with a sign beside them, on stills; no clip showed
it what they mean.
"""


def card(scores: dict, config: ModelConfig, model: Path) -> str:
    """Return the model's README.md."""
    stop, plain = scores["stop"], scores["plain"]
    rows = [(name, stop[key], plain[key]) for name, key in FIGURES.items()]
    rows += [
        (f"{p}, inside the pair", stop["inside_pairs"][p], plain["inside_pairs"][p])
        for p in stop["inside_pairs"]
    ]
    rows += [
        (f"text to video, {k}", stop["text_to_video"][k], plain["text_to_video"][k])
        for k in ("R@1", "R@5", "R@10")
    ]
    weights = load_file(model / "model.safetensors")
    return CARD.format(
        objects=len(OBJECT_NAMES),
        regions=config.stop.regions,
        eta=config.stop.eta,
        clips=stop["clips"],
        trainable=sum(v.numel() for v in weights.values()),
        table="\n".join(f"| {name} | {100 * a:.1f} % | {100 * b:.1f} % |" for name, a, b in rows),
        videos=stop["text_to_video"]["clips"],
        backbone=(model / "backbone.safetensors").stat().st_size / 1e6,
        prompts=(model / "model.safetensors").stat().st_size / 1e6,
    )


def main() -> None:
    """Write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", type=Path, help="a folder that training.mini.pretrain wrote")
    parser.add_argument(
        "prompts", type=Path, help="a folder that training.mini.train_prompts or average wrote"
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--scores", type=Path)
    args = parser.parse_args()
    model: Path = args.output
    model.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.backbone / "backbone.safetensors", model / "backbone.safetensors")
    prompts = {k: v.half() for k, v in load_file(args.prompts / "model.safetensors").items()}
    save_file(prompts, model / "model.safetensors", metadata={"format": "pt"})
    config: ModelConfig = read_config(args.prompts)
    world = f"{len(OBJECT_NAMES)} drawn objects in {len(MOTION_NAMES)} motions"
    extra = {
        "license": "Apache-2.0",
        "description": f"bundled; knows only its generated world: {world}",
        "training": TRAINING,
    }
    if args.scores:
        extra["metrics"] = json.loads(args.scores.read_text(encoding="utf-8"))
        (model / "README.md").write_text(card(extra["metrics"], config, model), encoding="utf-8")
    text = json.dumps(replace(config, extra=extra).to_dict(), indent=1, ensure_ascii=False)
    (model / "config.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
