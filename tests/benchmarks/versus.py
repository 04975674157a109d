"""This tool beside scripts that do the same: ``python tests/benchmarks/versus.py CLIPS -o docs/speed.md``.

CLIPS is a folder of short real videos. From them, films in HD are made with a key frame every 2 and every 10
seconds, and one of two hours. Contenders are whole processes that take turns, so that a busy machine slows all
alike; the ratios are the figures to read. The model is a ViT-B/32 with random weights: the cost does not depend
on them. torchcodec takes part if it can open a clip.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import torch
from folder import PLAIN, make_model
from stop_cost import measure

import stopcli

CAREFUL = PLAIN.replace(
    """        frames = [frame.to_image() for frame in container.decode(video=0)]
    picked = [frames[int((i + 0.5) * len(frames) / 12)] for i in range(12)]
""",
    """        count = container.streams.video[0].frames or sum(p.size > 0 for p in container.demux(video=0))
        container.seek(0)
        wanted = {int((i + 0.5) * count / 12) for i in range(12)}
        picked = [f.to_image() for i, f in enumerate(container.decode(video=0)) if i in wanted]
""",
)
TORCHCODEC = PLAIN.replace(
    """    with av.open(str(path), **lenient_tags()) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    picked = [frames[int((i + 0.5) * len(frames) / 12)] for i in range(12)]
""",
    """    decoder = VideoDecoder(str(path), seek_mode="approximate")
    times = [(i + 0.5) * decoder.metadata.duration_seconds / 12 for i in range(12)]
    picked = [to_pil_image(f) for f in decoder.get_frames_played_at(times).data]
""",
).replace(
    "from pathlib import Path\n",
    "from pathlib import Path\nfrom torchcodec.decoders import VideoDecoder\n"
    "from torchvision.transforms.functional import to_pil_image\n",
    1,
)
LABELS = """
import sys
import numpy as np, open_clip, torch
from safetensors.torch import load_file
clip = open_clip.create_model("ViT-B-32-quickgelu").eval()
clip.load_state_dict(load_file(sys.argv[1]))
texts = ["a video of " + line.strip() for line in open(sys.argv[2])]
with torch.inference_mode():
    for i in range(0, len(texts), 256):
        clip.encode_text(open_clip.tokenize(texts[i : i + 256]), normalize=True)
"""
FAST = ("--precision", "int8", "--sampling", "keyframes")


def run(command: list[object]) -> float:
    """Run a whole process and return its seconds; a script that fails ends the benchmark."""
    began = time.perf_counter()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    found_nothing = done.returncode == 1 and "-m" in command  # a search, which says so
    if done.returncode and not found_nothing:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - began


def twice(command: list[object], **settings: str) -> float:
    """Run a command in two processes at the same time, and return the seconds until both have ended."""
    began, environ = time.perf_counter(), {**os.environ, **settings}
    words = list(map(str, command))
    runs = [subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL) for _ in range(2)]
    if any([process.wait() for process in runs]):
        raise SystemExit(f"failed: {words}")
    return time.perf_counter() - began


def stop(*words: object) -> list[object]:
    return [sys.executable, "-m", "stopcli", *words]


def film(path: Path, clips: Path, seconds: float, size: tuple[int, int], gop: int) -> Path:
    """Write real pictures at 25 frames a second, with a key frame every ``gop`` frames and no others."""
    count = 0
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(25))
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        stream.options = {"preset": "faster", "g": str(gop), "keyint_min": str(gop), "sc_threshold": "0"}
        while count < seconds * 25:
            for source in sorted(clips.glob("*.mp4")):
                with av.open(str(source)) as container:
                    for frame in container.decode(video=0):
                        picture = frame.reformat(*size, "yuv420p")
                        picture.pts, picture.time_base, picture.pict_type = count, Fraction(1, 25), 0
                        out.mux(stream.encode(picture))
                        count += 1
                        if count >= seconds * 25:
                            break
                if count >= seconds * 25:
                    break
        out.mux(stream.encode())
    return path


def repeated(path: Path, part: Path, times: int) -> Path:
    """Write a film again and again, packet by packet."""
    with av.open(str(path), "w") as out, av.open(str(part)) as source:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(video=0) if p.size]
        length = round(len(packets) / 25 / packets[0].time_base)
        kept = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
        for i in range(times):
            for data, pts, dts, key in kept:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, packets[0].time_base, key
                packet.pts, packet.dts = pts + i * length, dts + i * length
                out.mux(packet)
    return path


class Table:
    """Contenders that take turns at tasks, and the medians of their ratios to the first."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.lines: list[str] = []

    def add(self, what: str, contenders: dict[str, Callable[[], float]]) -> None:
        """Measure, and tell: the first contender is what the others are compared with."""
        taken = [{name: work() for name, work in contenders.items()} for _ in range(self.rounds)]
        first = next(iter(contenders))
        for name in contenders:
            seconds, ratios = [t[name] for t in taken], [t[first] / t[name] for t in taken]
            spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
            ratio = "" if name == first else f"{statistics.median(ratios):.1f}"
            line = f"| {what if name == first else ''} | {name} | {statistics.median(seconds):.2f} | {spread} | {ratio} |"
            self.lines.append(line)
            print(line, flush=True)


def free_memory() -> float:
    """Return how many bytes of memory are free, where that can be told; else 0."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return sum(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def embedding(table: Table, model: Path, scratch: Path, clips: Path, hours: float) -> None:
    weights, out = model / "backbone.safetensors", scratch / "out.npz"
    opened = (
        f"from torchcodec.decoders import VideoDecoder; VideoDecoder({str(sorted(clips.iterdir())[0])!r})"
    )
    codec = not subprocess.run([sys.executable, "-c", opened], capture_output=True).returncode

    def script(text: str, folder: Path) -> Callable[[], float]:
        return lambda: run(
            [sys.executable, "-W", "ignore", "-c", text, folder, weights, scratch / "plain.npy"]
        )

    def ours(folder: Path, *more: str) -> Callable[[], float]:
        command = stop("embed", folder, "--model", model, "--output", out, "--force", "--quiet", *more)
        return lambda: run(command)

    def contenders(folder: Path, *, memory: float = 0.0) -> dict[str, Callable[[], float]]:
        return {
            **({"plain script": script(PLAIN, folder)} if free_memory() > memory else {}),
            "careful script": script(CAREFUL, folder),
            **({"torchcodec": script(TORCHCODEC, folder)} if codec else {}),
            "`stop embed`": ours(folder),
            f"`stop embed {' '.join(FAST)}`": ours(folder, *FAST),
        }

    table.add(f"{len(list(clips.iterdir()))} short clips", contenders(clips))
    work = stop("classify", clips, "--model", model, "--labels", "a dog,a cat", "--quiet")
    spinning = {"with libgomp's own setting": lambda: twice(work, GOMP_SPINCOUNT="300000")}
    table.add(
        "two labels for each of them, twice at the same time",
        {**spinning, "`stop classify`": lambda: twice(work)},
    )
    for gop in (48, 250):
        folder = scratch / f"hd-{gop}"
        folder.mkdir()
        film(folder / "film.mp4", clips, 60, (1920, 1080), gop)
        row = f"a minute of 1080p, a key frame every {gop} frames"
        table.add(row, contenders(folder, memory=60 * 25 * 1920 * 1080 * 4 + 2e9))  # every frame, in RGBX
    part, once = film(scratch / "part.mp4", clips, 60, (640, 360), 250), Table(1)
    for name, length in (("long", hours), ("windows", hours / 10)):
        (scratch / name).mkdir()
        repeated(scratch / name / "film.mp4", part, round(60 * length))
    once.add(f"one film of {hours:g} h, 640x360", contenders(scratch / "long", memory=math.inf))
    windows = {"`stop embed --window 8`": ours(scratch / "windows", "--window", "8")}
    windows["the same with the fast options"] = ours(scratch / "windows", "--window", "8", *FAST)
    once.add(f"a film of {hours * 6:g} min in {round(hours * 45)} windows", windows)
    table.lines += once.lines


def answers(table: Table, model: Path, scratch: Path, clips: Path) -> None:
    weights, clip = model / "backbone.safetensors", sorted(clips.glob("*.mp4"))[0]
    words = [f"{a} {b}" for a in ("red", "small", "old", "fast", "wooden") for b in range(2000)]
    lists = {400: scratch / "400.txt", 10_000: scratch / "10000.txt"}
    for count, file in lists.items():
        file.write_text("\n".join(words[:: len(words) // count][:count]))
    for name in ("mini", model):
        shown = "mini" if name == "mini" else "ViT-B/32"
        again = stop("classify", clip, "--model", name, "--quiet")
        run(again)
        table.add(f"one clip, {shown}, default labels", {"`stop classify`": lambda c=again: run(c)})
    plain = partial(run, [sys.executable, "-W", "ignore", "-c", LABELS, weights, lists[400]])
    for count, file in lists.items():
        command = stop("classify", clip, "--model", model, "--labels", f"@{file}", "--quiet")
        fresh = {**os.environ, "STOPCLI_HOME": ""}

        def first(command=command, fresh=fresh) -> float:
            with tempfile.TemporaryDirectory() as home:
                fresh["STOPCLI_HOME"] = home
                began = time.perf_counter()
                subprocess.run(list(map(str, command)), env=fresh, capture_output=True, check=True)
                return time.perf_counter() - began

        run(command)
        table.add(
            f"{count:,} labels",
            {
                **({"plain script, without a clip": plain} if count == 400 else {}),
                "`stop classify`, the first time": first,
                "`stop classify`, later": lambda c=command: run(c),
            },
        )
    index = scratch / "index"
    words_of = iter(range(10_000))
    search = ("retrieve", clips, "--model", model, "--index", index, "--quiet", "--query")
    run(stop(*search, "a first one"))
    table.add(
        f"a query, {len(list(clips.iterdir()))} clips in the index",
        {
            "new words": lambda: run(stop(*search, f"a man at number {next(words_of)}")),
            "known words": lambda: run(stop(*search, "a first one")),
        },
    )


def costs(rounds: int) -> str:
    """Return what STOP's prompts cost over plain CLIP, as rows of a table."""
    lines = []
    for architecture, batch, precisions in (("ViT-B-32", 4, ("fp32", "bf16")), ("ViT-L-14", 1, ("bf16",))):
        for precision in precisions:
            for attention in ("joint", "frame"):
                where = (12, batch, precision, torch.device("cpu"), rounds)
                plain, ours, ratios = measure(architecture, *where, attention=attention)
                a, b = 1000 * plain / batch, 1000 * (ours or 0) / batch
                spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                lines.append(f"| {architecture} | {precision} | {attention} | {a:.0f} | {b:.0f} | {spread} |")
                print(lines[-1], flush=True)
    return "\n".join(lines)


def searches() -> str:
    """Return what searches of large indexes cost, as rows of a table."""
    script = Path(__file__).with_name("index.py")
    rows = ["--rows", "10000", "100000", "1000000"]
    done = subprocess.run([sys.executable, str(script), *rows], capture_output=True, text=True, check=True)
    print(done.stdout)
    cells = [line.split(" | ") for line in done.stdout.splitlines()[1:]]
    return "\n".join(f"| {c[0]} | {c[1]} | {c[5]} | {c[6]} | {c[8]} | {c[10]} |" for c in cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="write the page of the documentation")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hours", type=float, default=2)
    args = parser.parse_args()
    table = Table(args.rounds)
    if (load := os.getloadavg()[0]) > 0.5 * (os.cpu_count() or 1):
        print(f"warning: other programs are busy here (load {load:.1f})", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "vit-b-32"
        make_model(model)
        embedding(table, model, Path(scratch), args.clips, args.hours)
        answers(table, model, Path(scratch), args.clips)
    prompts, index = costs(args.rounds), searches()
    told = f"median of {args.rounds} rounds" if args.rounds > 1 else "one round"
    machine = f"{platform.system()}, {os.cpu_count()} cores ({cpu()}), Python {platform.python_version()}"
    made = f"{machine}, torch {torch.__version__}, stopcli {stopcli.__version__}; {told}"
    page = Path(__file__).with_name("speed.md.template").read_text(encoding="utf-8")
    page = page.replace("{machine}", made).replace("{versus}", "\n".join(table.lines))
    page = page.replace("{prompts}", prompts).replace("{index}", index)
    page = page.replace("{clips}", str(len(list(args.clips.iterdir()))))
    if args.output is not None:
        args.output.write_text(page, encoding="utf-8")


def cpu() -> str:
    """Name the processor and what it is fast at, as far as this is told."""
    from stopcli.runtime.device import _cpu_bf16

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
    return f"{name}, {_cpu_bf16() or 'no bf16'}"


if __name__ == "__main__":
    main()
