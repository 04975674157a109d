"""The model card; what is published names the files that a model was made of, never where they lie."""

from __future__ import annotations

import re
import shlex
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

CARD_FILE = "README.md"
_ABSOLUTE = re.compile(r"(?:file://|~|[A-Za-z]:)?[/\\]")
_INSIDE = re.compile(r"(?<![\w:/\\.~])(?:file://|~|[A-Za-z]:)?[/\\][^\s\"',;)\]}]+")  # within a sentence
_PATHS = {"base", "origin", "source"}  # values that are paths, relative ones too


def card_data(name: str, config: dict[str, Any], license: str | None = None) -> ModelCardData:
    """Return the front matter of a card; huggingface_hub escapes it. Arguments as for `model_card`."""
    from huggingface_hub import EvalResult, ModelCardData

    labels, weights = config.get("labels"), config["backbone"].get("weights", "")
    task = "video-classification" if labels else "text-to-video-retrieval"
    data = config.get("training", {}).get("data")
    source = data.get("source") if isinstance(data, dict) else None
    source = str(without_paths(source or "own videos", "source"))
    results = [
        EvalResult(
            task_type=task,
            dataset_type=source,
            dataset_name=source,
            dataset_split=split,
            metric_type="accuracy" if metric == "top-1" else metric,
            metric_name=metric,
            metric_value=round(float(value), 2),
        )
        for split in ("validation", "test")
        for metric, value in config.get("metrics", {}).get(split, {}).items()
        if isinstance(value, int | float)
    ]
    wanted = [] if labels else [task]
    return ModelCardData(
        license=(license or "other").lower(),
        library_name="stopcli",
        base_model=weights[3:].partition("@")[0] if weights.startswith("hf:") else None,
        pipeline_tag=task if labels else None,
        tags=["video", "clip", *(["stop", "prompt-learning"] if config.get("stop") else []), *wanted],
        model_name=name if results else None,
        eval_results=results or None,
    )


def model_card(name: str, config: dict[str, Any], license: str | None = None) -> str:
    """Return the card of the model that ``config.json`` describes; ``license`` None is "other"."""
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("stopcli", "hub")
    environment = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["cell"] = _cell
    metrics, training = config.get("metrics", {}), without_paths(config.get("training", {}))
    start = {"started from": training.get("base")}
    body = environment.get_template("card_template.md").render(
        name=name,
        config=config,
        training=training,
        settings=training.get("settings", {}) | start | training.get("provenance", {}),
        metrics=metrics,
        columns=list(dict.fromkeys(column for scores in metrics.values() for column in scores)),
    )
    return f"---\n{card_data(name, config, license).to_yaml()}\n---\n{body}"


def _cell(value: Any) -> str:
    """Return a value as Markdown shows it in a table or a sentence, on one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]()#!|~])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")


def without_paths(value: Any, key: str = "") -> Any:
    """Return what JSON holds, under a key, with every path in it shortened to its last part."""
    if isinstance(value, dict):
        return {k: without_paths(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [without_paths(v, key) for v in value]
    if not isinstance(value, str):
        return value
    if key == "command":
        try:
            words = shlex.split(value)
        except ValueError:  # quotes that do not match
            words = value.split()
        return shlex.join("=".join(map(_last, word.split("="))) for word in words)
    if key in _PATHS or _ABSOLUTE.match(value):
        return _last(value)
    return _INSIDE.sub(lambda match: _last(match[0]), value)


def _last(text: str) -> str:
    """Return the last part of a path, with either kind of slash; a Hub name stays whole."""
    return text if text.startswith("hf:") else PureWindowsPath(text).name or text.strip("/\\")
