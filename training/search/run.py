"""Measure what a search finds in mini's generated world: ``python -m training.search.run OUT [kinds] ...``.

    confidence  is what is there found, and what is not there not? By archive, threshold and sort of query
    near        is what is only half there, the object with another motion, told from what is there?
    learned     are labels that were learned from clips found, and what is none of them not?
    copies      which cosine tells copies of a clip from other clips of the same thing?
    cuts        how well do the times of hits agree with those of shots, with windows and with cuts?

Everything goes through the search engine, over real files. Results are written to OUT/results.jsonl, a line
for each measurement; what is there already is not measured again. training.search.table writes the page.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from stopcli.hub.registry import resolve
from stopcli.index.calibration import SURE, copy_threshold
from stopcli.index.engine import SearchEngine
from stopcli.index.types import Filters, SearchRequest
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.runtime.head import fit_head
from stopcli.video.clips import read_windows
from stopcli.video.cut.shots import read_shots
from training.world.clips import Clip, render
from training.world.files import write_clips
from training.world.vocabulary import MOTION_NAMES, OBJECT_NAMES, caption

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SEED = 20261126
PAIRS = [(o, m) for o in OBJECT_NAMES for m in MOTION_NAMES]
ARCHIVES = ((5, 5), (40, 5), (40, 24), (200, 24), (800, 43))  # clips, and objects that they may show
REPETITIONS, QUERIES = 20, 8
TAUGHT = tuple(
    (sort, clips, more) for sort in ("object", "motion") for clips in (2, 3, 5, 10) for more in (False, True)
)
OWN, OTHERS = 10, 200  # clips of each label that are asked about, and clips of nothing that was learned
FILMS, SHOTS, RATE, SIZE = 20, 10, 24, (192, 144)
READINGS = {"windows of 8 s": (8.0, False), "windows of 4 s": (4.0, False), "cuts, 8 s": (8.0, True)}
COPIES = {  # how a copy is encoded: codec, scale of the sides, CRF, seconds cut off
    "compressed harder": ("libx264", 1.0, "34", 0.0),
    "half the size": ("libx264", 0.5, "26", 0.0),
    "VP9": ("libvpx-vp9", 1.0, "40", 0.0),
    "0.3 s cut off": ("libx264", 1.0, "23", 0.3),
}
COPIED = 100


class Search:
    """A model, and indexes in a folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.encoder = out, Encoder(resolve("mini"), EncoderOptions("cpu", "fp32"))

    def ask(self, index: str, files: Sequence[Path], request: SearchRequest, *, cuts: bool = False) -> list:
        """Return the hits of a request among files."""
        folder = self.out / "indexes" / index
        with SearchEngine(folder, self.encoder.files, lambda: self.encoder, cuts=cuts) as engine:
            return list(engine.search(request, files, []).hits)

    def confidence(self, clips: int, objects: int) -> dict:
        """Search archives of clips of some objects for what is there and for what is not."""
        answers = []
        for files, there, rng in self._archives(clips, objects):
            texts = {caption(*p): True for p in sorted(there)} | {
                caption(*p): False for p in PAIRS if p[0] not in {o for o, _ in there}
            }
            names = {o: o in {o for o, _ in there} for o in OBJECT_NAMES}
            for sort, asked in (("object and motion", texts), ("object", names)):
                answers += self._answers(files, asked, sort, rng)
        return {"answers": answers}

    def near(self, clips: int, objects: int) -> dict:
        """Search archives for what is half there: the object, but with another motion."""
        answers = []
        for files, there, rng in self._archives(clips, objects):
            half = {caption(*p): False for p in PAIRS if p not in there and p[0] in {o for o, _ in there}}
            answers += self._answers(files, half, "object, other motion", rng)
        return {"answers": answers}

    def _archives(self, clips: int, objects: int) -> Iterator[tuple[list[Path], set, np.random.Generator]]:
        """Yield files, and the pairs that they show."""
        shown, files = self._pool
        rng = np.random.default_rng([SEED, clips, objects])
        for _ in range(REPETITIONS):
            some = set(rng.permutation(OBJECT_NAMES)[:objects])
            mine = rng.permutation([i for i, (o, _) in enumerate(shown) if o in some])[:clips]
            yield [files[i] for i in mine], {shown[i] for i in mine}, rng

    def _answers(
        self, files: list[Path], texts: dict[str, bool], sort: str, rng: np.random.Generator
    ) -> list:
        """Ask for some texts that are there and some that are not."""
        asked = [
            str(text)
            for present in (True, False)
            for text in rng.permutation([t for t, there in texts.items() if there == present])[:QUERIES]
        ]
        if not asked:
            return []
        hits = self.ask("clips", files, SearchRequest(tuple(asked), filters=Filters(1)))
        return [[sort, texts[h.query], round(h.score, 4), round(h.confidence, 4)] for h in hits]

    def learned(self, sort: str, clips: int, background: bool) -> dict:
        """Learn four labels from clips of each; judge other clips of them, and clips of something else."""
        shown, vectors = self._embedded()
        names = np.array([pair[sort == "motion"] for pair in shown])
        answers = []
        for repetition in range(REPETITIONS):
            rng = np.random.default_rng([SEED, clips, background, repetition])
            order = rng.permutation(np.unique(names))
            labels, rest = [str(name) for name in order[:4]], order[4:]
            mine = [rng.permutation(np.flatnonzero(names == label)) for label in labels]
            others = rng.permutation(np.flatnonzero(np.isin(names, rest)))
            if background:  # of three other things only: nobody labels examples of all there is
                few = rng.permutation(np.flatnonzero(np.isin(names, rest[:3])))
                labels, mine, others = [*labels, "background"], [*mine, few], np.setdiff1d(others, few)
            truth = np.repeat(np.arange(len(labels)), clips)
            learned = vectors[np.concatenate([some[:clips] for some in mine])]
            head = fit_head(labels, self.encoder.encode_texts(labels), learned, truth, kind="mix").head
            asked = [(i, label) for label, some in enumerate(mine[:4]) for i in some[clips:][:OWN]]
            asked += [(i, None) for i in rng.permutation(others)[:OTHERS]]
            for i, label in asked:
                logits = head.logits(vectors[i : i + 1])[0]
                best = int(logits.argmax())
                share = np.exp(logits[best] - np.logaddexp.reduce(logits))
                sure = 1 / (1 + np.exp(-np.clip(head.odds(vectors[i : i + 1], best)[0], -500, 500)))
                if best == 4:  # background: no answer
                    share = sure = 0.0
                right = None if label is None else label == best
                answers.append((right, share >= SURE, sure >= SURE))
        own = np.array([[right and given for given in ways] for right, *ways in answers if right is not None])
        others = np.array([ways for right, *ways in answers if right is None])
        kinds = ("share", "confidence")
        return {
            "found": dict(zip(kinds, own.mean(0).round(4).tolist(), strict=True)),
            "alarms": dict(zip(kinds, others.mean(0).round(4).tolist(), strict=True)),
        }

    @functools.cached_property
    def _pool(self) -> tuple[list, list[Path]]:
        shown = [PAIRS[i] for i in np.random.default_rng(SEED).permutation(2 * len(PAIRS)) % len(PAIRS)]
        pool = [Clip(SEED + i, *pair, test=True) for i, pair in enumerate(shown)]
        return shown, write_clips(self.out / "clips", pool)

    @functools.cache  # noqa: B019
    def _embedded(self) -> tuple[list, np.ndarray]:
        """Return what the clips of the archives show, and their vectors."""
        shown, files = self._pool
        return shown, np.stack([clip.vector for clip in self.encoder.encode_videos(files)])

    def copies(self, how: str) -> dict:
        """Return the cosines of clips with their copies, and with another clip of the same label."""
        rng = np.random.default_rng([SEED, 1])
        twice = [PAIRS[i] for i in rng.permutation(len(PAIRS))[:COPIED] for _ in range(2)]
        clips = [Clip(7 * SEED + i, *pair, test=True) for i, pair in enumerate(twice)]
        files = write_clips(self.out / "copied", clips)
        folder = self.out / "copies" / how.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        made = [encode_again(file, folder, *COPIES[how]) for file in files[::2]]
        vectors = {}
        for name, some in (("first", files[::2]), ("second", files[1::2]), ("copy", made)):
            vectors[name] = np.stack([clip.vector for clip in self.encoder.encode_videos(some)])
        return {
            "copies": np.round((vectors["first"] * vectors["copy"]).sum(1), 4).tolist(),
            "others": np.round((vectors["first"] * vectors["second"]).sum(1), 4).tolist(),
            "threshold": copy_threshold(np.concatenate([vectors["first"], vectors["second"]])),
        }

    def cuts(self, reading: str) -> dict:
        """Return how well the best hit's time agrees with that of the shot that was asked for."""
        window, cuts = READINGS[reading]
        films = {self.out / "films" / f"{i:02d}.mp4": i for i in range(FILMS)}
        spans = {file: write_film(file, i) for file, i in films.items()}
        texts = {text: (file, start, end) for file, shots in spans.items() for start, end, text in shots}
        began = time.process_time()
        hits = self.ask(
            reading.replace(" ", "-"),
            list(films),
            SearchRequest(tuple(texts), window=window, filters=Filters(1)),
            cuts=cuts,
        )
        indexed = time.process_time() - began
        overlaps = []
        for hit in hits:
            file, start, end = texts[hit.query]
            both = max(0.0, min(hit.end, end) - max(hit.start, start))
            overlaps.append(
                both / (max(hit.end, end) - min(hit.start, start)) if Path(hit.path) == file else 0.0
            )
        found = cuts_found(spans, window) if cuts else None
        read = read_shots if cuts else read_windows
        began = time.process_time()
        vectors = sum(
            1 for f in films for _ in read(f, self.encoder.frames, self.encoder.framing, window, threads=1)
        )
        decoding = time.process_time() - began
        return {
            "overlaps": np.round(overlaps, 4).tolist(),
            "vectors": vectors,
            "cuts": found,
            "decoding": decoding,
            "seconds": indexed,
        }


def write_film(path: Path, number: int) -> list[tuple[float, float, str]]:
    """Write a film of shots of 1.5 to 14 seconds; return when each begins and ends, and what it shows."""
    rng = np.random.default_rng([SEED, number, 2])
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = [
        PAIRS[i]
        for i in np.random.default_rng(SEED).permutation(len(PAIRS))[number * SHOTS : (number + 1) * SHOTS]
    ]
    spans, at, scenes = [], 0, []
    for k, pair in enumerate(chosen):
        count = int(rng.uniform(1.5, 14) * RATE)
        spans.append((at / RATE, (at + count) / RATE, caption(*pair)))
        scenes.append((Clip(SEED + 1000 * number + k, *pair, test=True), count))
        at += count
    if not path.exists():
        with av.open(str(path), "w") as out:
            stream = out.add_stream(
                "libx264", rate=RATE, options={"crf": "23", "preset": "veryfast", "g": "48"}
            )
            stream.width, stream.height = SIZE
            stream.pix_fmt = "yuv420p"
            for clip, count in scenes:
                frames = [frame.resize(SIZE) for frame in render(clip)[0]]
                for i in np.linspace(0, len(frames) - 1, count).round().astype(int):
                    out.mux(stream.encode(av.VideoFrame.from_image(frames[i])))
            out.mux(stream.encode())
    return spans


def cuts_found(spans: dict, window: float) -> dict:
    """Count the cuts that were found within 0.2 s, and piece ends that are none."""
    found = false = 0
    for file, shots in spans.items():
        true = [start for start, _, _ in shots][1:]
        ends = [piece.start for piece in read_shots(file, 8, 96, window)][1:]
        found += sum(any(abs(t - e) <= 0.2 for e in ends) for t in true)
        false += sum(all(abs(t - e) > 0.2 for t in true) for e in ends)
    return {"cuts": sum(len(s) - 1 for s in spans.values()), "found": found, "other ends": false}


def encode_again(file: Path, folder: Path, codec: str, scale: float, crf: str, skip: float) -> Path:
    """Encode a clip another time."""
    path = folder / (file.stem + (".webm" if codec == "libvpx-vp9" else ".mp4"))
    if path.exists():
        return path
    with av.open(str(file)) as source, av.open(str(path), "w") as out:
        given = source.streams.video[0]
        options = {"crf": crf} | (
            {"b": "0", "deadline": "realtime", "cpu-used": "8"} if codec != "libx264" else {}
        )
        stream = out.add_stream(codec, rate=given.average_rate, options=options)
        stream.width, stream.height = (int(s * scale) // 2 * 2 for s in (given.width, given.height))
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 90_000)
        for frame in source.decode(given):
            if frame.time >= skip:
                frame.pict_type = 0
                out.mux(stream.encode(frame.reformat(stream.width, stream.height, "yuv420p")))
        out.mux(stream.encode())
    return path


def main() -> None:
    """Measure what was not measured yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("kinds", nargs="*", default=["confidence", "near", "learned", "copies", "cuts"])
    args = parser.parse_args()
    search, file = Search(args.out), args.out / "results.jsonl"
    jobs = {
        "confidence": [(search.confidence, archive) for archive in ARCHIVES],
        "near": [(search.near, archive) for archive in ARCHIVES],
        "learned": [(search.learned, case) for case in TAUGHT],
        "copies": [(search.copies, (how,)) for how in COPIES],
        "cuts": [(search.cuts, (reading,)) for reading in READINGS],
    }
    done = (
        {tuple(json.loads(line)["key"]) for line in file.read_text().splitlines()} if file.exists() else set()
    )
    for kind, (measure, arguments) in ((k, job) for k in args.kinds for job in jobs[k]):
        if (kind, *arguments) not in done:
            record = {"key": [kind, *arguments], **measure(*arguments)}
            with file.open("a") as stream:
                stream.write(json.dumps(record) + "\n")
            print(kind, *arguments, flush=True)


if __name__ == "__main__":
    main()
