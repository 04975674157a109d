"""What STOP costs over plain CLIP on the same frames: ``python stop_cost.py [--architecture ViT-B-32]``.

Random weights: the cost does not depend on them. The two take turns, so that a busy machine slows
both alike; the ratio is the figure to read.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from stopcli.model.checkpoint import build_backbone
from stopcli.model.config import StopConfig
from stopcli.model.stop import Stop
from stopcli.runtime.device import DTYPES, checked_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", default="fp32", choices=DTYPES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    device, dtype = checked_device(args.device), DTYPES[args.precision]
    backbone = build_backbone(args.architecture, None)
    plain, stop = Stop(backbone, None), Stop(backbone, StopConfig())
    for parameter in stop.prompts.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    size = backbone.preprocess.size
    pixels = torch.randn(args.batch, args.frames, 3, size, size).to(device, dtype)

    def once(model: Stop) -> float:
        model.eval().to(device, dtype)
        begin = time.perf_counter()
        with torch.inference_mode():
            model.encode_video(pixels).cpu()
        return time.perf_counter() - begin

    for model in (plain, stop):
        once(model)
    times = [(once(plain), once(stop)) for _ in range(args.rounds)]
    ratios = [b / a for a, b in times]
    plain_s, stop_s, ratio = map(statistics.median, (*zip(*times, strict=True), ratios))
    trainable, _ = stop.count_parameters()
    print(
        f"{args.architecture}, {args.frames} frames, batch {args.batch}, {args.precision}, {device}: "
        f"plain {plain_s:.3f} s, STOP {stop_s:.3f} s, ratio {ratio:.3f} (median of {args.rounds}; "
        f"{min(ratios):.3f} to {max(ratios):.3f}); {trainable:,} trainable parameters"
    )


if __name__ == "__main__":
    main()
