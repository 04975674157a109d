"""Train STOP prompts on the frozen backbone: ``python train_prompts.py DATA OUT [--steps N]``.

Reads OUT/backbone.safetensors, writes the model folder OUT/model. Only clips of the seen pairs
are used, and only their captions compete. A clip played backwards or mirrored shows the reverse
motion, so each clip serves four times.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from arch import CONFIG, FRAMES, NAME
from cache import load
from pretrain import TEMPLATES
from world import MIRROR, MOTION_NAMES, MOTIONS, OBJECT_NAMES, REVERSE, caption, seen_pairs

from stopcli.model.checkpoint import build_backbone, load_backbone_weights, load_prompts, save
from stopcli.model.config import ModelConfig, StopConfig
from stopcli.model.stop import Stop

STOP = StopConfig(regions=8, eta=3, hidden=96, dropout=0.0)


def text_bank(model: Stop) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embed every phrasing of the pairs, objects and motions: (V,384,E), (V',48,E), (V'',10,E)."""
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])

    @torch.inference_mode()
    def embed(texts: list[list[str]]) -> torch.Tensor:
        return torch.stack([model.encode_text(tokenizer(row)) for row in texts])

    pairs = embed(
        [[t.format(f"{o} {MOTIONS[m][k]}") for o, m in seen_pairs()] for t in TEMPLATES[1:] for k in range(3)]
    )
    objects = embed([[t.format(o) for o in OBJECT_NAMES] for t in TEMPLATES[1:]])
    motions = embed(
        [[s + MOTIONS[m][k] for m in MOTION_NAMES] for s in ("something ", "", "it is ") for k in range(3)]
    )
    return pairs.clone(), objects.clone(), motions.clone()


def any_phrasing(bank: torch.Tensor) -> torch.Tensor:
    """Pick a phrasing for each row: (V,N,E) -> (N,E)."""
    return bank[torch.randint(len(bank), (bank.shape[1],)), torch.arange(bank.shape[1])]


def texture(s: int) -> torch.Tensor:
    """Draw a pattern (3,S,S) in [0,1]: noise in cells, or bent stripes, soft or hard, in two colours."""
    a, b = torch.rand(2, 3, 1, 1)
    if random.random() < 0.4:
        cells = random.choice((3, 5, 8, 12, 20, 32))
        shape = random.choice(((cells, cells), (cells, 1), (1, cells)))
        mode, more = random.choice((("nearest", {}), ("bilinear", {"align_corners": False})))
        share = F.interpolate(torch.rand(1, 1, *shape), size=(s, s), mode=mode, **more)[0]
    else:
        y, x = torch.meshgrid(torch.arange(s) / s, torch.arange(s) / s, indexing="ij")
        angle, phase = random.uniform(0, 2 * math.pi), random.uniform(0, 2 * math.pi)
        along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        bend = random.uniform(0, 0.12) * torch.sin(random.uniform(2, 12) * across + phase)
        share = 0.5 + 0.5 * torch.sin(random.uniform(12, 55) * (along + bend))[None]
        share = (share > 0.5).float() if random.random() < 0.5 else share
    return a * (1 - share) + b * share


def vary(x: torch.Tensor) -> torch.Tensor:
    """Shift, scale and tint clips (B,T,3,S,S), lay a texture over most of them, shake the camera a little.

    What moves still moves the same way; what stands behind it is never the same again.
    """
    b, t, _, s, _ = x.shape
    share = torch.empty(b, 1, 1, 1, 1).uniform_(-0.1, 0.6).clamp_min(0)
    x = x * (1 - share) + torch.stack([texture(s) for _ in range(b)])[:, None] * share
    theta = torch.zeros(b, t, 2, 3)
    theta[:, :, 0, 0] = theta[:, :, 1, 1] = torch.empty(b, 1).uniform_(0.88, 1.15)
    theta[..., 2] = torch.empty(b, 1, 2).uniform_(-0.1, 0.1)
    theta[..., 2] += torch.randn(b, t, 2) * torch.empty(b, 1, 1).uniform_(-0.01, 0.018).clamp_min(0)
    grid = F.affine_grid(theta.flatten(0, 1), [b * t, 3, s, s], align_corners=False)
    x = F.grid_sample(x.flatten(0, 1), grid, padding_mode="reflection", align_corners=False).unflatten(
        0, (b, t)
    )
    grey = x.mean(2, keepdim=True)
    return grey + (x - grey) * torch.empty(b, 1, 1, 1, 1).uniform_(0.5, 1.2)


def batch(frames, motions, pick, rng, *, varied: bool) -> tuple[torch.Tensor, np.ndarray]:
    """Draw clips with their augmentations: pixels (B,T,3,S,S) in [0,1], motions (B,)."""
    out, shown = [], []
    mirror = {MOTION_NAMES.index(a): MOTION_NAMES.index(b) for a, b in MIRROR.items()}
    reverse = {MOTION_NAMES.index(a): MOTION_NAMES.index(b) for a, b in REVERSE.items()}
    step = frames.shape[1] // FRAMES
    for i in pick:
        at = np.arange(FRAMES) * step + rng.integers(step, size=FRAMES)
        clip, motion = frames[i][at], motions[i]
        if rng.random() < 0.5:
            clip, motion = clip[::-1], reverse[motion]
        if rng.random() < 0.5:
            clip, motion = clip[:, :, ::-1], mirror.get(motion, motion)
        out.append(clip)
        shown.append(motion)
    x = torch.from_numpy(np.stack(out)).permute(0, 1, 4, 2, 3).float() / 255
    b = len(x)
    x = vary(x) if varied else x
    mean = x.mean((1, 2, 3, 4), keepdim=True)
    x = (x - mean) * torch.empty(b, 1, 1, 1, 1).uniform_(0.85, 1.15) + mean
    return (x + torch.empty(b, 1, 3, 1, 1).uniform_(-0.06, 0.06)).clamp(0, 1), np.array(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set", default="train", help="train, varied: bolder backgrounds too, or spin: things turn in place"
    )
    parser.add_argument("--until", type=int, help="stop after so many of the steps")
    parser.add_argument("--varied", action="store_true", help="shift, scale and overlay the clips")
    parser.add_argument("--init", type=Path, help="go on from the prompts of this model folder")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    rng = np.random.default_rng(args.seed)

    backbone = build_backbone(NAME, CONFIG, {})
    load_backbone_weights(backbone, args.out / "backbone.safetensors")
    model = Stop(backbone, STOP)
    if args.init:
        load_prompts(model, args.init)
    pair_bank, object_bank, motion_bank = text_bank(model)
    window = F.normalize(pair_bank.mean(0), dim=-1)
    print(
        json.dumps(
            {
                "logit_scale": round(float(backbone.logit_scale), 2),
                "trainable": sum(p.numel() for p in model.prompts.parameters()),
                "cosines": {
                    f"{a}-{b}": round(
                        float(
                            torch.dot(
                                *(
                                    F.normalize(motion_bank.mean(0), dim=-1)[MOTION_NAMES.index(m)]
                                    for m in (a, b)
                                )
                            )
                        ),
                        4,
                    )
                    for a, b in (
                        ("left", "right"),
                        ("up", "down"),
                        ("closer", "away"),
                        ("clockwise", "counter"),
                    )
                },
            }
        ),
        flush=True,
    )

    frames, clips = load(args.data, args.set)
    objects = np.array([OBJECT_NAMES.index(c.obj) for c in clips])
    motions = np.array([MOTION_NAMES.index(c.motion) for c in clips])
    pairs = seen_pairs()
    row = {(OBJECT_NAMES.index(o), MOTION_NAMES.index(m)): i for i, (o, m) in enumerate(pairs)}
    validation, train = np.arange(len(clips) - 256, len(clips)), len(clips) - 256
    size = backbone.preprocess
    mean, std = (torch.tensor(v)[:, None, None] for v in (size.mean, size.std))

    optimizer = torch.optim.AdamW(
        model.prompts.parameters(), lr=args.lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / 60, 0.5 * (1 + math.cos(math.pi * min(1, i / args.steps))))
    )
    scale = float(backbone.logit_scale)
    log = (args.out / "prompts.jsonl").open("w")
    began = time.time()

    def loss_of(pick, texts, *, varied=False):
        pixels, shown = batch(frames, motions, pick, rng, varied=varied)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            video = model.encode_video((pixels - mean) / std)
        logits = [scale * video @ t.T for t in texts]
        full = np.array([row[o, m] for o, m in zip(objects[pick], shown, strict=True)])
        target = [torch.from_numpy(v) for v in (full, objects[pick], shown)]
        losses = [F.cross_entropy(a, b) for a, b in zip(logits, target, strict=True)]
        right = [(a.argmax(1) == b).float().mean().item() for a, b in zip(logits, target, strict=True)]
        return losses, right

    for step in range(args.until or args.steps):
        model.train()
        texts = any_phrasing(pair_bank), any_phrasing(object_bank), any_phrasing(motion_bank)
        losses, right = loss_of(rng.choice(train, size=args.batch), texts, varied=args.varied)
        loss = losses[0] + losses[1] + 0.5 * losses[2]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.prompts.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step == args.steps - 1:
            line = {
                "step": step,
                "loss": loss.item(),
                "pair": right[0],
                "object": right[1],
                "motion": right[2],
                "seconds": time.time() - began,
            }
            if step % 200 == 0 or step == args.steps - 1:
                model.eval()
                with torch.inference_mode():
                    _, seen = loss_of(validation, (window, object_bank[0], motion_bank[0]))
                line |= {"val_pair": seen[0], "val_object": seen[1], "val_motion": seen[2]}
            line = {k: round(float(v), 4) for k, v in line.items()}
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n")
            log.flush()
        if step % 200 == 199 or step == args.steps - 1:
            config = ModelConfig(
                NAME, "file:backbone.safetensors", STOP, FRAMES,
                labels=tuple(caption(o, m) for o in OBJECT_NAMES for m in MOTION_NAMES),
                backbone_config=CONFIG,
            )  # fmt: skip
            save(args.out / "model", config, model)


if __name__ == "__main__":
    main()
