"""Train mini's CLIP from nothing on stills: ``python -m training.mini.pretrain DATA -o OUT [--steps N]``.

A still is one decoded frame of a training clip. Its caption names the object ("a dog"); on more
than half of the stills a sign is drawn (an arrow, a turning arrow, ...) and the caption names the
sign's motion too ("a dog moving left"). No caption says what the clip really did. Clips carry no
signs, so the backbone cannot know their motion; yet its text tower keeps "left" apart from
"right", which leaves something for STOP's prompts to speak with.

Loss: cross-entropy of each still over ALL captions of the seen pairs, over the objects alone and,
with a sign, over the motions alone; captions are phrased anew at every step. Images and captions
are also both drawn to common anchors, one an object and one a motion, that are thrown away in the
end: without them the captions' motion words collapse in the first steps and stay so.

Letters: B stills, S side in pixels, N texts, E embedding size.
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.mini.arch import CONFIG, TEMPLATES
from training.mini.cache import S, load, positions
from training.mini.loop import Loop, options, seeded
from training.world.signs import sign
from training.world.vocabulary import (
    MIRROR,
    MOTION_NAMES,
    MOTIONS,
    OBJECT_NAMES,
    WORD_NAMES,
    WORDS,
    seen_pairs,
)

BANK = 160  # signs drawn of each motion and word
WORDS_A_STEP = 3
SIGN_NAMES = (*MOTION_NAMES, *WORD_NAMES)
SIGNS = MOTIONS | WORDS
OBJECTS = len(OBJECT_NAMES)


def sign_bank(rng: np.random.Generator, open_below: bool) -> list[list[Tensor]]:
    """Draw the signs once: for each of SIGN_NAMES BANK tensors (4,b,b) in [0,1]."""
    bank = []
    for motion in SIGN_NAMES:
        images = [sign(rng, motion, int(rng.integers(30, 49)), open_below=open_below) for _ in range(BANK)]
        bank.append([torch.from_numpy(np.asarray(i).copy()).permute(2, 0, 1) / 255 for i in images])
    return bank


def distort(images: Tensor, places: np.ndarray, turned: float) -> tuple[Tensor, np.ndarray]:
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


class Stills:
    """A set of clips as stills with signs drawn on them."""

    def __init__(self, args: argparse.Namespace, rng: np.random.Generator) -> None:
        self._args, self._rng = args, rng
        self._frames, clips = load(args.data, args.set)
        self._objects = np.array([OBJECT_NAMES.index(c.obj) for c in clips])
        self._places = np.stack([positions(c) for c in clips])
        self._bank = sign_bank(rng, open_below=args.turns > 0)
        self._names = SIGN_NAMES if args.words else MOTION_NAMES
        self._mirrored = np.array([self._names.index(MIRROR.get(n, n)) for n in self._names])

    def draw(self, pairs: list[tuple[int, int]]) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Draw stills (B,3,S,S) in [0,1] with captions among the (object, motion) pairs.

        Returns:
            The stills, their objects (B,) and the motions of their signs (B,), -1 for none.
        """
        rng, size = self._rng, self._args.batch
        pick = rng.integers(len(self._objects), size=size)
        which = rng.integers(self._frames.shape[1], size=size)
        pixels = np.stack([self._frames[i, k] for i, k in zip(pick, which, strict=True)])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        images, places = distort(images, self._places[pick, which], self._args.turned)
        objects = self._objects[pick]
        motions = self._choose_motions(objects, pairs)
        self._add_signs(images, places, motions)
        if rng.random() < 0.5:  # mirror the whole batch, and with it what the signs say
            images, motions = images.flip(-1), np.where(motions < 0, -1, self._mirrored[motions])
        return images, objects, motions

    def _choose_motions(self, objects: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
        rng = self._rng
        allowed = [[m for o, m in pairs if o == k] for k in range(OBJECTS)]
        motions = [rng.choice(allowed[o]) if rng.random() < 0.6 else -1 for o in objects]
        if self._args.turns:  # show the turning signs more often
            turn = rng.random(len(objects)) < self._args.turns
            motions = [
                int(rng.integers(6, 8)) if t and 6 in allowed[o] else m
                for t, o, m in zip(turn, objects, motions, strict=True)
            ]
        return np.array(motions)

    def _add_signs(self, images: Tensor, places: np.ndarray, motions: np.ndarray) -> None:
        """Draw each still's sign beside its object, in place."""
        for i, motion in enumerate(motions):
            if motion < 0:
                continue
            drawn = self._bank[motion][self._rng.integers(BANK)]
            b = drawn.shape[-1]
            for _ in range(20):
                x, y = self._rng.integers(0, S - b, 2)
                away = max(abs(x + b / 2 - places[i, 0]), abs(y + b / 2 - places[i, 1]))
                if away > 0.4 * (places[i, 2] + b):
                    break
            patch = images[i, :, y : y + b, x : x + b]
            patch.copy_(patch * (1 - drawn[3]) + drawn[:3] * drawn[3])


def text_features(model: CLIP, tokens: Tensor) -> Tensor:
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


def phrasings(pairs: list[tuple[int, int]], names: tuple[str, ...]) -> list[str]:
    """Phrase every pair, then every object alone, then every motion alone."""

    def phrase(text: str) -> str:
        return random.choice(TEMPLATES).format(text)

    texts = [phrase(f"{OBJECT_NAMES[o]} {random.choice(SIGNS[names[m]])}") for o, m in pairs]
    texts += [phrase(o) for o in OBJECT_NAMES]
    return texts + [random.choice(("something ", "", "it is ")) + random.choice(SIGNS[m]) for m in names]


def main() -> None:
    """Train, and write OUT/pretrained.safetensors (to go on from) and OUT/backbone.safetensors."""
    parser = options(__doc__, steps=2400, batch=128, lr=1e-3, clips="stills")
    parser.add_argument("--turns", type=float, default=0.0, help="share of further turning signs, open below")
    parser.add_argument("--turned", type=float, default=0.0, help="share of the stills turned any way")
    parser.add_argument("--words", action="store_true", help="teach the signs of the further words too")
    args = parser.parse_args()
    rng = seeded(args.seed)
    stills = Stills(args, rng)
    names = SIGN_NAMES if args.words else MOTION_NAMES
    seen = [(OBJECT_NAMES.index(o), MOTION_NAMES.index(m)) for o, m in seen_pairs()]

    model = CLIP(**CONFIG)
    model.logit_scale.data.fill_(math.log(20))
    if args.init:
        model.load_state_dict(load_file(args.init))
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    anchors = torch.nn.Linear(CONFIG["embed_dim"], OBJECTS + len(names), bias=False)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2]},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        {"params": anchors.parameters(), "weight_decay": 0.01},
    ]
    loop = Loop(groups, model.parameters(), args, warm=100)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]
    std = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None]
    for step in range(args.steps):
        # all seen pairs compete at each step, and of the further words a few, with every object
        further = np.arange(len(MOTION_NAMES), len(names))
        words = rng.choice(further, WORDS_A_STEP, False) if args.words else []
        pairs = seen + [(o, int(w)) for o in range(OBJECTS) for w in words]
        images, shown, signs = stills.draw(pairs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image = model.encode_image((images - mean) / std)
            text = text_features(model, tokenizer(phrasings(pairs, names)))
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)  # (B,E), (N,E)
        scale = model.logit_scale.exp()

        row = {pair: i for i, pair in enumerate(pairs)}
        captions = [row[o, m] if m >= 0 else len(pairs) + o for o, m in zip(shown, signs, strict=True)]
        objects, signed = torch.from_numpy(shown), torch.from_numpy(signs >= 0)
        motions = torch.from_numpy(signs[signs >= 0])
        pair_objects = torch.tensor([o for o, _ in pairs] + list(range(OBJECTS)))
        pair_motions = torch.tensor([m for _, m in pairs])
        to_text = scale * image @ text.T
        p, n = len(pairs), len(pairs) + OBJECTS  # rows of text: pairs, objects, motions
        loss_full = F.cross_entropy(to_text[:, :n], torch.tensor(captions))
        loss_object = F.cross_entropy(to_text[:, p:n], objects)
        loss_motion = F.cross_entropy(to_text[signed, n:], motions)
        image_anchors = scale.detach() * image @ F.normalize(anchors.weight, dim=-1).T
        text_anchors = scale.detach() * text @ F.normalize(anchors.weight, dim=-1).T
        loss_anchor = (
            F.cross_entropy(image_anchors[:, :OBJECTS], objects)
            + F.cross_entropy(image_anchors[signed][:, OBJECTS:], motions)
            + F.cross_entropy(text_anchors[:n, :OBJECTS], pair_objects)
            + F.cross_entropy(text_anchors[:p, OBJECTS:], pair_motions)
            + F.cross_entropy(text_anchors[n:, OBJECTS:], torch.arange(len(names)))
        )
        loss = loss_full + 0.5 * loss_object + 0.5 * loss_motion + 0.5 * loss_anchor
        loop.step(loss)
        model.logit_scale.data.clamp_(0, math.log(100))
        last = step == args.steps - 1
        if step % 20 == 0 or last:
            right = to_text[:, n:].argmax(1).numpy() == signs
            alone = text[n:].detach()
            between = (alone @ alone.T)[[0, 2, 4, 6], [1, 3, 5, 7]]  # of each reversible pair
            loop.report(
                step=step,
                loss=loss.item(),
                full=loss_full.item(),
                object_top1=(to_text[:, p:n].argmax(1) == objects).float().mean(),
                sign_top1=share(right[signs >= 0]),
                word_top1=share(right[signs >= len(MOTION_NAMES)]),
                turn_top1=share(right[np.isin(signs, (6, 7))]),
                scale=scale.item(),
                cosine_left_right=between[0],
                cosine_pairs_max=between.max(),
            )
        if step % 400 == 399 or last:
            state = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
            save_file(state, args.output / "pretrained.safetensors")
    save_backbone(model, args.output / "backbone.safetensors")


def share(right: np.ndarray) -> float:
    """Return the share that is right; not a number where there is nothing."""
    return float(right.mean()) if len(right) else math.nan


if __name__ == "__main__":
    main()
