"""Put the trained parts together: ``python finish.py OUT MODEL [--scores FILE]``.

Writes the model folder that ships, prompts in fp16. With --scores the measured figures go into
config.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file
from world import OBJECT_NAMES

from stopcli.model.config import ModelConfig, read_config

TRAINING = {
    "data": "training/mini: generated H.264 clips, 14,000 for stills, 28,000 for prompts; 384 of 480 object-motion pairs",
    "backbone": "pretrain.py: 2400 + 1000 + 300 + 1300 + 900 steps of 128 stills; the commands are in training/mini/README.md",
    "prompts": "train_prompts.py: 600 + 200 + 560 + 2000 + 1100 + 700 + 1100 + 800 steps of 32 clips, the last two rounds averaged",
    "device": "CPU, 2 cores, bf16 autocast",
}


CARD = """# mini

**mini knows only its generated world:** {objects} drawn objects (Noto Emoji) in 10 motions. It exists so that every
command works with no network, for tests, and to show what STOP's prompts add. It says nothing sensible about real
footage.

- backbone: an open_clip ViT of 4 blocks, width 192, patch 16, 96 pixels, trained from nothing on stills of the
  world, then frozen; a text tower of 3 blocks; {backbone:.1f} MB
- prompts: STOP, spatial and temporal, {regions} regions a frame, at most {eta} prompts a gap; 8 frames; {trainable:,}
  trained parameters, {prompts:.1f} MB
- license: Apache-2.0; training: see `training/mini/` in the repository

## Measured

{clips} held-out clips: object-motion pairs that training never saw, on families of backgrounds that it never saw,
read from H.264 files of varying size, rate and quality. The label is the nearest of 480 captions.

| | STOP | the same backbone, frames averaged |
|---|---|---|
{table}

Each reversible clip is there forwards and backwards, so a model that is blind to order scores 50 % inside a pair.
For text to video, the queries are the captions of {videos} clips, no two alike.

```console
python training/mini/evaluate.py --model mini
```

## Limits

"Turning" means turning about the middle of the picture, like the hand of a clock; spinning in place it was
not taught in the end. Words that the world does not use count as silence. Several named objects in one clip, motions that change, and
photographs are outside of what it was trained on. Ten further phrases ("circling", "jumping twice", ...) it knows
as words with a sign beside them, on stills; no clip showed it what they mean.
"""


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def card(scores: dict, config: ModelConfig, model: Path) -> str:
    stop, plain = scores["stop"], scores["plain"]
    rows = [("object, top-1", "object_top1"), ("motion, top-1", "motion_top1")]
    table = [f"| {name} | {percent(stop[key])} | {percent(plain[key])} |" for name, key in rows]
    table += [
        f"| {pair}, inside the pair | {percent(stop['inside_pairs'][pair])} | {percent(plain['inside_pairs'][pair])} |"
        for pair in stop["inside_pairs"]
    ]
    table += [
        f"| text to video, {k} | {percent(stop['text_to_video'][k])} | {percent(plain['text_to_video'][k])} |"
        for k in ("R@1", "R@5", "R@10")
    ]
    weights = load_file(model / "model.safetensors")
    return CARD.format(
        objects=len(OBJECT_NAMES), regions=config.stop.regions, eta=config.stop.eta, clips=stop["clips"],
        trainable=sum(v.numel() for v in weights.values()), table="\n".join(table), videos=stop["text_to_video"]["clips"],
        backbone=(model / "backbone.safetensors").stat().st_size / 1e6,
        prompts=(model / "model.safetensors").stat().st_size / 1e6,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--scores", type=Path)
    args = parser.parse_args()
    args.model.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.out / "backbone.safetensors", args.model / "backbone.safetensors")
    prompts = load_file(args.out / "model" / "model.safetensors")
    save_file(
        {k: v.half() for k, v in prompts.items()}, args.model / "model.safetensors", metadata={"format": "pt"}
    )
    config: ModelConfig = read_config(args.out / "model")
    extra = {
        "license": "Apache-2.0",
        "description": "bundled; knows only its generated world: 48 drawn objects in 10 motions",
        "training": TRAINING,
    }
    if args.scores:
        extra["metrics"] = json.loads(args.scores.read_text(encoding="utf-8"))
        card_text = card(extra["metrics"], config, args.model)
        (args.model / "README.md").write_text(card_text, encoding="utf-8")
    told = replace(config, extra=extra).to_dict()
    (args.model / "config.json").write_text(
        json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
