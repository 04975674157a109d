"""What towers cost, and STOP over them: ``python stop_cost.py [--architecture ViT-B-32] ...``.

Random weights: the cost does not depend on them. Plain CLIP and STOP take turns on the same frames, so that
a busy machine slows both alike; the ratio is the figure to read. ``--markdown`` prints a table.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from stopcli.model.checkpoint import build_backbone
from stopcli.model.config import Attention, StopConfig
from stopcli.model.stop import Stop
from stopcli.runtime.device import DTYPES, checked_device
from stopcli.runtime.graphs import how_to_encode, one_by_one


def measure(
    architecture: str,
    frames: int,
    batch: int,
    precision: str,
    device: torch.device,
    rounds: int,
    *,
    attention: Attention = "joint",
) -> tuple[float, float | None, list[float]]:
    """Return the median seconds of plain CLIP and of STOP, and their ratios; STOP is None where it cannot run."""
    dtype = DTYPES[precision]
    backbone = build_backbone(architecture, None)
    size = backbone.preprocess.size
    pixels = torch.randn(batch, frames, 3, size, size).to(device, dtype)
    models = [Stop(backbone, None)]
    if not isinstance(backbone.tower, str):
        models.append(Stop(backbone, StopConfig(attention=attention)))
        for parameter in models[1].prompts.parameters():
            torch.nn.init.normal_(parameter, std=0.02)

    def once(encode: Callable[[torch.Tensor], torch.Tensor]) -> float:
        begin = time.perf_counter()
        with torch.inference_mode():
            encode(pixels).cpu()
        return time.perf_counter() - begin

    encodes: list[Any] = []
    for model in models:
        model.eval().to(device, dtype)
        encodes.append(how_to_encode(model, device, compiled=False))
        for _ in range(2):  # a recording is made the second time
            once(encodes[-1])
    times = [[once(encode) for encode in encodes] for _ in range(rounds)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    ratios = [row[-1] / row[0] for row in times]
    return medians[0], medians[1] if len(models) > 1 else None, ratios


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architecture", action="append")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", default="fp32", choices=DTYPES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--one-by-one", action="store_true", help="on CUDA: play no recordings")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    device = checked_device(args.device)
    print(f"{args.frames} frames, batch {args.batch}, {args.precision}, {device}, median of {args.rounds}")
    if args.markdown:
        print("| architecture | plain, ms a clip | with STOP | ratio |\n|---|---|---|---|")
    for name in args.architecture or ["ViT-B-32"]:
        settings = (args.frames, args.batch, args.precision, device, args.rounds)
        with one_by_one() if args.one_by_one else nullcontext():
            plain, stop, ratios = measure(name, *settings)
        gc.collect()
        a, b = (f"{1000 * s / args.batch:.3g}" for s in (plain, stop or 0))
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if stop else ""
        if args.markdown:
            print(
                f"| {name} | {a} | {b} | {spread} |" if stop else f"| {name} | {a} | no prompts | |",
                flush=True,
            )
        else:
            told = f"STOP {b} ms, ratio {spread}" if stop else "takes no prompts"
            print(f"{name}: plain {a} ms a clip, {told}", flush=True)


if __name__ == "__main__":
    main()
