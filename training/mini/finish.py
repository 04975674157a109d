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

from stopcli.model.config import ModelConfig, read_config

TRAINING = {
    "data": "training/mini: 14,000 generated H.264 clips, 384 of 480 object-motion pairs",
    "backbone": "pretrain.py --seed 0 --steps 2400, then --init --seed 1 --steps 1000 --lr 7e-4",
    "prompts": "train_prompts.py --seed 0 --steps {steps}",
    "device": "CPU, 2 cores, bf16 autocast",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--steps", type=int, default=1600, help="of train_prompts.py")
    args = parser.parse_args()
    args.model.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.out / "backbone.safetensors", args.model / "backbone.safetensors")
    prompts = load_file(args.out / "model" / "model.safetensors")
    save_file(
        {k: v.half() for k, v in prompts.items()}, args.model / "model.safetensors", metadata={"format": "pt"}
    )
    config: ModelConfig = read_config(args.out / "model")
    extra = {
        "licence": "Apache-2.0",
        "description": "bundled; knows only its generated world: 48 drawn objects in 10 motions",
        "training": {**TRAINING, "prompts": TRAINING["prompts"].format(steps=args.steps)},
    }
    if args.scores:
        extra["metrics"] = json.loads(args.scores.read_text(encoding="utf-8"))
    told = replace(config, extra=extra).to_dict()
    (args.model / "config.json").write_text(
        json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
