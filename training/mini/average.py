"""Average the prompts of several rounds: ``python average.py MODEL... -o OUT`` (arXiv 2203.05482)."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    states = [load_file(m / "model.safetensors") for m in args.models]
    mean = {k: sum(s[k].float() for s in states) / len(states) for k in states[0]}
    args.output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.models[0] / "config.json", args.output / "config.json")
    save_file(mean, args.output / "model.safetensors", metadata={"format": "pt"})
