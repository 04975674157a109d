"""Train STOP prompts on the frozen backbone: ``python -m training.mini.train_prompts DATA BACKBONE -o OUT``.

BACKBONE is a folder that training.mini.pretrain wrote; OUT becomes a model folder without a
backbone. Only clips of the seen pairs are used, and only their captions compete. A clip played
backwards or mirrored shows the reverse motion, so each clip serves four times.

Letters: B videos, T frames, S side in pixels, N texts, V phrasings, E embedding size.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from stopcli.model.checkpoint import build_backbone, load_backbone_weights, load_prompts, save
from stopcli.model.config import ModelConfig, StopConfig
from stopcli.model.stop import Stop
from stopcli.runtime.graphs import how_to_encode
from stopcli.train.trainer import parameter_groups
from training.mini.arch import CONFIG, FRAMES, NAME, TEMPLATES
from training.mini.cache import load
from training.mini.loop import WEIGHT_DECAY, Loop, options, seeded
from training.world.vocabulary import (
    MIRROR,
    MOTION_NAMES,
    MOTIONS,
    OBJECT_NAMES,
    PAIRS,
    REVERSE,
    caption,
    seen_pairs,
)

STOP = StopConfig(bound=0.3)
VALIDATION = 256  # clips at the end of a set


class Texts:
    """Every phrasing of the pairs, objects and motions: (V,384,E), (V',48,E), (V'',10,E)."""

    def __init__(self, model: Stop) -> None:
        tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])

        def embed(texts: list[list[str]]) -> Tensor:
            with torch.no_grad():
                return torch.stack([model.encode_text(tokenizer(row)) for row in texts])

        around, starts = TEMPLATES[1:], ("something ", "", "it is ")
        self.pairs = embed(
            [[t.format(f"{o} {MOTIONS[m][k]}") for o, m in seen_pairs()] for t in around for k in range(3)]
        )
        self.objects = embed([[t.format(o) for o in OBJECT_NAMES] for t in around])
        self.motions = embed([[s + MOTIONS[m][k] for m in MOTION_NAMES] for s in starts for k in range(3)])

    def any_phrasing(self) -> list[Tensor]:
        """Pick a phrasing of each text: three of (N,E)."""
        banks = (self.pairs, self.objects, self.motions)
        return [b[torch.randint(len(b), (b.shape[1],)), torch.arange(b.shape[1])] for b in banks]

    def for_validation(self) -> list[Tensor]:
        """Return the pairs' mean phrasing, and the objects' and motions' first: three of (N,E)."""
        return [F.normalize(self.pairs.mean(0), dim=-1), self.objects[0], self.motions[0]]

    def cosines(self) -> dict[str, float]:
        """Return how alike the text tower finds the two motions of each reversible pair."""
        mean = dict(zip(MOTION_NAMES, F.normalize(self.motions.mean(0), dim=-1), strict=True))
        return {f"{a}-{b}": round(float(mean[a] @ mean[b]), 4) for a, b in PAIRS}


class Clips:
    """A set of clips with what each shows; the last of them are for validation."""

    def __init__(self, data: Path, name: str, rng: np.random.Generator) -> None:
        self._frames, clips = load(data, name)
        self._rng = rng
        self._objects = np.array([OBJECT_NAMES.index(c.obj) for c in clips])
        self._motions = np.array([MOTION_NAMES.index(c.motion) for c in clips])
        self._row = {
            (OBJECT_NAMES.index(o), MOTION_NAMES.index(m)): i for i, (o, m) in enumerate(seen_pairs())
        }
        self._mirror, self._reverse = (
            [MOTION_NAMES.index(other.get(m, m)) for m in MOTION_NAMES] for other in (MIRROR, REVERSE)
        )
        self.train, self.validation = np.split(np.arange(len(clips)), [len(clips) - VALIDATION])

    def draw(self, pick: np.ndarray) -> tuple[Tensor, list[Tensor]]:
        """Augment clips: pixels (B,T,3,S,S) in [0,1]; the numbers of pair, object and motion, each (B,)."""
        rng, out, shown = self._rng, [], []
        step = self._frames.shape[1] // FRAMES
        for i in pick:
            at = np.arange(FRAMES) * step + rng.integers(step, size=FRAMES)
            clip, motion = self._frames[i][at], self._motions[i]
            if rng.random() < 0.5:
                clip, motion = clip[::-1], self._reverse[motion]
            if rng.random() < 0.5:
                clip, motion = clip[:, :, ::-1], self._mirror[motion]
            out.append(clip)
            shown.append(int(motion))
        x = torch.from_numpy(np.stack(out)).permute(0, 1, 4, 2, 3).float() / 255
        b = len(x)
        mean = x.mean((1, 2, 3, 4), keepdim=True)
        x = (x - mean) * torch.empty(b, 1, 1, 1, 1).uniform_(0.85, 1.15) + mean
        x = (x + torch.empty(b, 1, 3, 1, 1).uniform_(-0.06, 0.06)).clamp(0, 1)
        objects = self._objects[pick].tolist()
        pairs = [self._row[pair] for pair in zip(objects, shown, strict=True)]
        return x, [torch.tensor(v) for v in (pairs, objects, shown)]


def main() -> None:
    """Train, and write OUT/model.safetensors and OUT/config.json."""
    parser = options(__doc__, steps=1500, batch=32, lr=2e-3, clips="train")
    parser.add_argument("backbone", type=Path, help="the folder of backbone.safetensors")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    rng, device = seeded(args.seed), torch.device(args.device)
    backbone = build_backbone(NAME, CONFIG)
    load_backbone_weights(backbone, args.backbone / "backbone.safetensors")
    model = Stop(backbone, STOP)
    if args.init:
        load_prompts(model, args.init)
    texts, clips = Texts(model), Clips(args.data, args.set, rng)
    scale = float(backbone.logit_scale)
    start = {
        "logit_scale": round(scale, 2),
        "trainable": model.count_parameters()[0],
        "cosines": texts.cosines(),
    }
    print(json.dumps(start), flush=True)
    config = ModelConfig(
        architecture=NAME,
        weights="file:backbone.safetensors",
        stop=STOP,
        frames=FRAMES,
        labels=tuple(caption(o, m) for o in OBJECT_NAMES for m in MOTION_NAMES),
        backbone_config=CONFIG,
        template="{}",  # the labels are whole captions
    )
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.preprocess.mean, backbone.preprocess.std))

    def compare(pick: np.ndarray, texts: list[Tensor]) -> tuple[list, list]:
        """Return losses and shares that are right over pairs, objects and motions."""
        pixels, targets = clips.draw(pick)
        with torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=device.type != "cuda"):
            video = encode(((pixels - mean) / std).to(device)).cpu()  # (B,E)
        logits = [scale * video @ t.T for t in texts]
        losses = [F.cross_entropy(a, b) for a, b in zip(logits, targets, strict=True)]
        return losses, [(a.argmax(1) == b).float().mean() for a, b in zip(logits, targets, strict=True)]

    model.to(device)
    encode = how_to_encode(model, device, compiled=False)
    parameters = dict(model.prompts.named_parameters())
    loop = Loop(parameter_groups(parameters, WEIGHT_DECAY), parameters.values(), args, warm=60)
    for step in range(args.steps):
        model.train()
        phrased = texts.any_phrasing()
        losses, right = compare(rng.choice(clips.train, size=args.batch), phrased)
        loss = losses[0] + losses[1] + 0.5 * losses[2]
        loop.step(loss)
        last = step == args.steps - 1
        figures = {
            "step": step,
            "loss": loss.item(),
            "pair": right[0],
            "object": right[1],
            "motion": right[2],
        }
        if step % 200 == 0 or last:
            model.eval()
            with torch.inference_mode():
                _, right = compare(clips.validation, texts.for_validation())
            figures |= {"val_pair": right[0], "val_object": right[1], "val_motion": right[2]}
        if step % 20 == 0 or last:
            loop.report(**figures)
        if step % 200 == 199 or last:
            save(args.output, config, model)


if __name__ == "__main__":
    main()
