"""A folder embedded by ``stop embed`` and by a plain script: ``python folder.py FOLDER``.

The model is a real-size ViT-B/32 with random weights in a local folder. The plain script does what
most do: decode every frame with PyAV, pick twelve, preprocess with open_clip's own transform, encode
one video at a time in fp32. Both are timed as whole processes, in turn. Then ``--precision fp32`` is
compared with open_clip's encode_image on the same frames.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PLAIN = """
import sys
from pathlib import Path
import av, numpy as np, open_clip, torch
from safetensors.torch import load_file
from stopcli.video.container import lenient_tags
clip = open_clip.create_model("ViT-B-32-quickgelu").eval()
clip.load_state_dict(load_file(sys.argv[2]))
preprocess = open_clip.image_transform(224, is_train=False, mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
vectors = []
for path in sorted(Path(sys.argv[1]).iterdir()):
    with av.open(str(path), **lenient_tags()) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    picked = [frames[int((i + 0.5) * len(frames) / 12)] for i in range(12)]
    with torch.inference_mode():
        vectors.append(clip.encode_image(torch.stack([preprocess(f) for f in picked]), normalize=True).mean(0))
np.save(sys.argv[3], torch.stack(vectors).numpy())
"""


def make_model(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from stopcli.model.checkpoint import build_backbone, save
    from stopcli.model.config import ModelConfig

    torch.manual_seed(0)
    backbone = build_backbone("ViT-B-32-quickgelu", None)
    folder.mkdir()
    state = {k: v.contiguous() for k, v in backbone.clip.state_dict().items()}
    save_file(state, folder / "backbone.safetensors")
    save(folder, ModelConfig("ViT-B-32-quickgelu", "file:backbone.safetensors", None, 12), None)


def embed_command(folder: Path, model: Path, output: Path, *more: str) -> list[str]:
    words = ["embed", folder, "--model", model, "--output", output, "--force", "--quiet", *more]
    return [sys.executable, "-m", "stopcli", *map(str, words)]


def timed(command: list[str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return time.perf_counter() - begin


def parity(model: Path, folder: Path, output: Path) -> float:
    """Return the largest difference from open_clip's encode_image over all clips."""
    import open_clip
    import torch
    from safetensors.torch import load_file

    from stopcli.video.clips import read_frames

    clip = open_clip.create_model("ViT-B-32-quickgelu").eval()
    clip.load_state_dict(load_file(model / "backbone.safetensors"))
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    timed(embed_command(folder, model, output, "--precision", "fp32"))
    stored = np.load(output)
    worst = 0.0
    for path, vector in zip(stored["paths"], stored["vectors"], strict=True):
        pixels = torch.from_numpy(read_frames(path, 12, 224).pixels).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            image = clip.encode_image((pixels - mean) / std, normalize=True).mean(0)
        expected = torch.nn.functional.normalize(image, dim=-1).numpy()
        worst = max(worst, float(np.abs(expected - vector).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model, out = Path(scratch) / "vit-b-32", Path(scratch) / "out.npz"
        make_model(model)
        ours = embed_command(args.folder, model, out)
        weights = model / "backbone.safetensors"
        plain = [sys.executable, "-c", PLAIN, str(args.folder), str(weights), f"{scratch}/plain.npy"]
        pairs = [(timed(plain), timed(ours)) for _ in range(args.rounds)]
        figures = {
            "plain script, s": round(statistics.median(a for a, _ in pairs), 2),
            "stop embed, s": round(statistics.median(b for _, b in pairs), 2),
            "ratio": round(statistics.median(a / b for a, b in pairs), 2),
            "ratios": [round(a / b, 2) for a, b in pairs],
            "largest difference from open_clip, fp32": parity(model, args.folder, Path(scratch) / "fp32.npz"),
        }
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
