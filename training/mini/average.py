"""Average the prompts of several rounds, as arXiv 2203.05482: ``python -m training.mini.average -h``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file


def main() -> None:
    """Write a model folder whose prompts are the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    states = [load_file(m / "model.safetensors") for m in args.models]
    mean = {k: sum(s[k].float() for s in states) / len(states) for k in states[0]}
    args.output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.models[0] / "config.json", args.output / "config.json")
    save_file(mean, args.output / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
