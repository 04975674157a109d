"""What the authors of other methods print for the same protocols, with CLIP ViT-B/16.

From the tables of FROSTER (arXiv 2402.03241), TC-CLIP (arXiv 2404.09490) and GA2-CLIP. Their "best epoch" is
picked on the test clips.
"""

from __future__ import annotations

from stopcli.results.measured import TrialScore

BASE_TO_NOVEL = {  # base, novel, harmonic mean of K400, HMDB51, UCF101, SSv2
    "frozen CLIP": ((62.3, 53.4, 57.5), (53.3, 46.8, 49.8), (78.5, 63.6, 70.3), (4.9, 5.3, 5.1)),
    "VPT": ((69.7, 37.6, 48.8), (46.2, 16.0, 23.8), (90.5, 40.4, 55.8), (8.3, 5.3, 6.4)),
    "AIM": ((74.6, 62.5, 68.0), (64.0, 51.6, 57.1), (89.8, 76.4, 82.6), (8.5, 7.9, 8.2)),
    "ST-Adapter": ((73.6, 62.0, 67.3), (65.3, 48.9, 55.9), (85.5, 76.8, 80.9), (9.3, 8.4, 8.8)),
    "ViFi-CLIP": ((76.4, 61.1, 67.9), (73.8, 53.3, 61.9), (92.9, 67.7, 78.3), (16.2, 12.1, 13.9)),
    "Open-VCLIP": ((76.5, 62.6, 68.9), (70.3, 50.4, 58.7), (94.8, 77.5, 85.3), (16.0, 11.0, 13.0)),
    "FROSTER": ((77.8, 64.3, 70.4), (74.1, 58.0, 65.1), (95.3, 80.0, 87.0), (18.3, 12.2, 14.6)),
    "TC-CLIP": ((78.9, 63.6, 70.4), (73.3, 54.1, 62.2), (95.5, 78.0, 85.9), (17.5, 13.4, 15.2)),
    "GA2-CLIP": ((77.0, 63.3, 69.5), (78.3, 58.9, 67.2), (96.8, 75.2, 84.6), (18.7, 14.3, 16.2)),
}
COLUMNS = ("kinetics400", "hmdb51", "ucf101", "ssv2")
FEW_SHOT = {  # 2, 4, 8 and 16 clips a class; 32 frames
    "hmdb51": {"ViFi-CLIP": (57.2, 62.7, 64.5, 66.8), "TC-CLIP": (57.3, 62.3, 67.3, 68.6)},
    "ucf101": {"ViFi-CLIP": (80.7, 85.1, 90.0, 92.7), "TC-CLIP": (85.9, 89.9, 92.5, 94.6)},
    "ssv2": {"ViFi-CLIP": (6.2, 7.4, 8.5, 12.4), "TC-CLIP": (7.3, 8.6, 9.3, 14.0)},
}
SHOTS = (2, 4, 8, 16)
SOURCE = {"source": "FROSTER, TC-CLIP and GA2-CLIP, their own tables", "tower": "ViT-B/16"}


def published(kind: str, dataset: str, shots: list[int]) -> list[TrialScore]:
    """Return the rows that others have published of a protocol, marked so."""

    def row(method: str, count: int, scores: dict[str, float]) -> TrialScore:
        name = f"{method} (published, ViT-B/16)"
        weights = "untrained" if method == "frozen CLIP" else "best epoch"
        return TrialScore(name, dataset, kind, count, weights, scores, {}, None, True, SOURCE)

    if kind == "base-to-novel" and dataset in COLUMNS:
        names, at = ("base", "novel", "harmonic mean"), COLUMNS.index(dataset)
        return [row(m, 16, dict(zip(names, v[at], strict=True))) for m, v in BASE_TO_NOVEL.items()]
    return [
        row(method, count, {"top-1": values[SHOTS.index(count)]})
        for count in shots
        if kind == "few-shot" and count in SHOTS
        for method, values in FEW_SHOT.get(dataset, {}).items()
    ]
