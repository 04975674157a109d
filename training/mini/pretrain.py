"""Train mini's CLIP from nothing on stills: ``python pretrain.py DATA OUT [--steps N]``.

A still is one decoded frame of a training clip. Its caption names the object ("a dog"); on more
than half of the stills a sign is drawn (an arrow, a turning arrow, ...) and the caption names the
sign's motion too ("a dog moving left"). What the clip really did is never told. Clips carry no
signs, so the backbone cannot know their motion; yet its text tower keeps "left" apart from
"right", which leaves something for STOP's prompts to speak with.

Loss: cross-entropy of each still over ALL captions of the seen pairs, over the objects alone and,
with a sign, over the motions alone; captions are phrased anew at every step. Images and captions
are also both drawn to common anchors, one an object and one a motion, that are thrown away in the
end: without them the captions' motion words fall together in the first steps and stay there.
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
from arch import CONFIG
from cache import S, load, positions
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from world import MIRROR, MOTION_NAMES, MOTIONS, OBJECT_NAMES, WORD_NAMES, WORDS, seen_pairs, sign

TEMPLATES = ("{}", "{}", "a video of {}", "a photo of {}", "a clip of {}", "this is {}")
BANK = 160  # signs drawn of each motion and word
WORDS_A_STEP = 3
SIGN_NAMES = (*MOTION_NAMES, *WORD_NAMES)
SIGNS = MOTIONS | WORDS


def phrase(text: str) -> str:
    return random.choice(TEMPLATES).format(text)


def sign_bank(rng: np.random.Generator, open_below: bool) -> list[list[torch.Tensor]]:
    """Draw the signs once: for each of SIGN_NAMES BANK tensors (4,b,b) in [0,1]."""
    bank = []
    for motion in SIGN_NAMES:
        images = [sign(rng, motion, int(rng.integers(30, 49)), open_below=open_below) for _ in range(BANK)]
        bank.append([torch.from_numpy(np.asarray(i).copy()).permute(2, 0, 1) / 255 for i in images])
    return bank


def distort(images: torch.Tensor, places: np.ndarray, turned: float) -> tuple[torch.Tensor, np.ndarray]:
    """Shift, scale, brighten and tint (B,3,S,S) a little, turn a share of them any way.

    Values stay in [0,1]; the objects' places (B,3) follow.
    """
    b = len(images)
    angle = torch.empty(b).uniform_(-math.pi, math.pi) * (torch.rand(b) < turned)
    scale = torch.empty(b).uniform_(0.85, 1.15)
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale * angle.cos()
    theta[:, 1, 0] = scale * angle.sin()
    theta[:, 0, 1] = -theta[:, 1, 0]
    theta[:, :, 2] = torch.empty(b, 2).uniform_(-0.12, 0.12)
    at = torch.from_numpy(places[:, :2]).float() * 2 / S - 1 - theta[:, :, 2]  # the grid maps out to in
    at = torch.linalg.solve(theta[:, :, :2], at[..., None])[..., 0]
    places = np.concatenate([((at + 1) * S / 2).numpy(), places[:, 2:] / scale[:, None].numpy()], 1)
    grid = F.affine_grid(theta, [b, 3, S, S], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * torch.empty(b, 1, 1, 1).uniform_(0.8, 1.2) + mean
    return (images + torch.empty(b, 3, 1, 1).uniform_(-0.08, 0.08)).clamp(0, 1), places


def add_signs(images, place, motions, bank, rng) -> None:
    """Draw each still's sign beside its object, in place; motion -1 means none."""
    for i, motion in enumerate(motions):
        if motion < 0:
            continue
        drawn = bank[motion][rng.integers(BANK)]
        b = drawn.shape[-1]
        for _ in range(20):
            x, y = rng.integers(0, S - b, 2)
            if max(abs(x + b / 2 - place[i, 0]), abs(y + b / 2 - place[i, 1])) > 0.4 * (place[i, 2] + b):
                break
        patch = images[i, :, y : y + b, x : x + b]
        patch.copy_(patch * (1 - drawn[3]) + drawn[:3] * drawn[3])


def text_features(model: CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """As open_clip's encode_text, without computing the padding: attention is causal."""
    n = int((tokens != 0).sum(1).max())
    tokens = tokens[:, :n]
    x = model.token_embedding(tokens) + model.positional_embedding[:n]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:n, :n]))
    return x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection


def save_backbone(model: CLIP, path: Path) -> None:
    """Write the backbone as it ships: in fp16, words that the world does not use set to zero.

    Such words are then not noise but silence, and the file compresses.
    """
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    texts = [
        t.format(f"{o} {p}") for t in TEMPLATES for o in OBJECT_NAMES for ps in SIGNS.values() for p in ps
    ]
    used = tokenizer([*texts, "something it is", "a an the of in on with and"]).unique()
    state = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    known = torch.zeros(len(state["token_embedding.weight"]), 1, dtype=torch.half)
    known[used] = 1
    state["token_embedding.weight"] *= known
    save_file(state, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--turns", type=float, default=0.0, help="more of the turning signs, open below; a share"
    )
    parser.add_argument("--turned", type=float, default=0.0, help="share of the stills turned any way")
    parser.add_argument("--words", action="store_true", help="teach the signs of the further words too")
    parser.add_argument(
        "--set", default="stills", help="stills, train: larger objects, or varied: bolder backgrounds too"
    )
    parser.add_argument("--init", type=Path, help="go on from these weights")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    rng = np.random.default_rng(args.seed)

    frames, clips = load(args.data, args.set)
    objects = np.array([OBJECT_NAMES.index(c.obj) for c in clips])
    places = np.stack([positions(c) for c in clips])
    bank = sign_bank(rng, open_below=args.turns > 0)
    names = SIGN_NAMES if args.words else MOTION_NAMES
    seen = [(OBJECT_NAMES.index(o), MOTION_NAMES.index(m)) for o, m in seen_pairs()]

    model = CLIP(**CONFIG)
    model.logit_scale.data.fill_(math.log(20))
    if args.init:
        model.load_state_dict(load_file(args.init))
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    anchors = torch.nn.Linear(CONFIG["embed_dim"], len(OBJECT_NAMES) + len(names), bias=False)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}, {"params": anchors.parameters()}],
        lr=args.lr, betas=(0.9, 0.98), eps=1e-6,
    )  # fmt: skip
    warm = 100
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min((i + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1, i / args.steps)))),
    )
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]
    std = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None]
    log = (args.out / "pretrain.jsonl").open("w")
    began = time.time()
    for step in range(args.steps):
        # all seen pairs compete at each step, and of the further words a few, with every object
        words = (
            rng.choice(np.arange(len(MOTION_NAMES), len(names)), WORDS_A_STEP, False) if args.words else []
        )
        pairs = seen + [(o, int(w)) for o in range(len(OBJECT_NAMES)) for w in words]
        row = {pair: i for i, pair in enumerate(pairs)}
        allowed = [[m for o, m in pairs if o == k] for k in range(len(OBJECT_NAMES))]
        pair_objects = torch.tensor([o for o, _ in pairs] + list(range(len(OBJECT_NAMES))))
        pair_motions = torch.tensor([m for _, m in pairs])
        pick = rng.integers(len(clips), size=args.batch)
        which = rng.integers(frames.shape[1], size=args.batch)
        pixels = np.stack([frames[i, k] for i, k in zip(pick, which, strict=True)])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        images, place = distort(images, places[pick, which], args.turned)
        obj = objects[pick]
        motions = np.array([rng.choice(allowed[o]) if rng.random() < 0.6 else -1 for o in obj])
        if args.turns:  # show the turning signs more often
            turn = rng.random(args.batch) < args.turns
            motions = np.array(
                [
                    int(rng.integers(6, 8)) if t and (o, 6) in row else m
                    for t, o, m in zip(turn, obj, motions, strict=True)
                ]
            )
        add_signs(images, place, motions, bank, rng)
        if rng.random() < 0.5:  # mirror the whole batch, and with it what the signs say
            flipped = np.array(
                [names.index(MIRROR.get(names[m], names[m])) if m >= 0 else -1 for m in motions]
            )
            images, motions = images.flip(-1), flipped
        texts = [phrase(f"{OBJECT_NAMES[o]} {random.choice(SIGNS[names[m]])}") for o, m in pairs]
        texts += [phrase(o) for o in OBJECT_NAMES]
        texts += [random.choice(("something ", "", "it is ")) + random.choice(SIGNS[m]) for m in names]
        full = np.array([row[o, m] if m >= 0 else len(pairs) + o for o, m in zip(obj, motions, strict=True)])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image = model.encode_image((images - mean) / std)
            text = text_features(model, tokenizer(texts))
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        scale = model.logit_scale.exp()
        logits = scale * image @ text.T
        n = len(pairs) + len(OBJECT_NAMES)
        loss_full = F.cross_entropy(logits[:, :n], torch.from_numpy(full))
        loss_object = F.cross_entropy(logits[:, len(pairs) : n], torch.from_numpy(obj))
        signed = torch.from_numpy(motions >= 0)
        loss_motion = F.cross_entropy(logits[signed, n:], torch.from_numpy(motions[motions >= 0]))
        drawn = scale.detach() * image @ F.normalize(anchors.weight, dim=-1).T
        said = scale.detach() * text @ F.normalize(anchors.weight, dim=-1).T
        k = len(OBJECT_NAMES)
        loss_anchor = (
            F.cross_entropy(drawn[:, :k], torch.from_numpy(obj))
            + F.cross_entropy(drawn[signed][:, k:], torch.from_numpy(motions[motions >= 0]))
            + F.cross_entropy(said[:n, :k], pair_objects)
            + F.cross_entropy(said[: len(pairs), k:], pair_motions)
            + F.cross_entropy(said[n:, k:], torch.arange(len(names)))
        )
        loss = loss_full + 0.5 * loss_object + 0.5 * loss_motion + 0.5 * loss_anchor
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(0, math.log(100))
        if step % 20 == 0 or step == args.steps - 1:
            moving = text[n:].detach()
            between = (moving @ moving.T)[[0, 2, 4, 6], [1, 3, 5, 7]]
            line = {
                "step": step, "loss": loss.item(), "full": loss_full.item(),
                "object_top1": (logits[:, len(pairs) : n].argmax(1).numpy() == obj).mean(),
                "sign_top1": (logits[:, n:].argmax(1)[signed].numpy() == motions[motions >= 0]).mean(),
                "word_top1": (logits[:, n:].argmax(1).numpy() == motions)[motions >= len(MOTION_NAMES)].mean() if args.words else math.nan,
                "turn_top1": (logits[:, n:].argmax(1).numpy() == motions)[(motions == 6) | (motions == 7)].mean(),
                "scale": scale.item(), "cosine_left_right": between[0].item(),
                "cosine_pairs_max": between.max().item(), "seconds": round(time.time() - began, 1),
            }  # fmt: skip
            print(json.dumps({k: round(float(v), 4) for k, v in line.items()}), flush=True)
            log.write(json.dumps({k: round(float(v), 6) for k, v in line.items()}) + "\n")
            log.flush()
        if step % 400 == 399 or step == args.steps - 1:
            state = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
            save_file(state, args.out / "pretrained.safetensors")
    save_backbone(model, args.out / "backbone.safetensors")


if __name__ == "__main__":
    main()
