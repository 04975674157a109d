"""The model card of a fine-tuned model: Markdown with the front matter that the Hub reads.

The front matter is huggingface_hub's, which escapes it, and holds the scores so that the Hub shows them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from stopcli.hub.redact import without_paths

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData
    from jinja2 import Template

CARD_FILE = "README.md"
TAGS = ("video", "clip", "stop", "prompt-learning")


def card_data(name: str, config: dict[str, Any], license: str | None = None) -> ModelCardData:
    """Return what the Hub reads at the head of a card.

    Args:
        name: the model's name.
        config: what its ``config.json`` says.
        license: an SPDX identifier; None is "other".
    """
    from huggingface_hub import EvalResult, ModelCardData

    labels, weights = config.get("labels"), config["backbone"].get("weights", "")
    task = "video-classification" if labels else "text-to-video-retrieval"
    source = str(
        without_paths(config.get("training", {}).get("data", {}).get("source") or "own videos", "source")
    )
    metrics = config.get("metrics", {})
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
        for metric, value in metrics.get(split, {}).items()
        if isinstance(value, int | float)
    ]
    return ModelCardData(
        license=(license or "other").lower(),
        library_name="stopcli",
        base_model=weights[3:].partition("@")[0] if weights.startswith("hf:") else None,
        pipeline_tag=task if labels else None,
        tags=[*TAGS, *([] if labels else [task])],
        model_name=name if results else None,
        eval_results=results or None,
    )


def model_card(name: str, config: dict[str, Any], license: str | None = None) -> str:
    """Return the card of a model folder; no path of the machine stands in it.

    Args:
        name: its title.
        config: what its ``config.json`` says.
        license: an SPDX identifier; None is "other".
    """
    labels, metrics = config.get("labels"), config.get("metrics", {})
    training = without_paths(config.get("training", {}))
    body = _template().render(
        name=name,
        config=config,
        training=training,
        settings=training.get("settings", {})
        | {"started from": training.get("base")}
        | training.get("provenance", {}),
        purpose=f"Tells {len(labels)} classes apart" if labels else "Finds videos by text",
        metrics=metrics,
        columns=list(dict.fromkeys(column for scores in metrics.values() for column in scores)),
    )
    return f"---\n{card_data(name, config, license).to_yaml()}\n---\n{body}"


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("stopcli", "hub")
    environment = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["cell"] = _cell
    return environment.get_template("card_template.md")


def _cell(value: Any) -> str:
    """Return a value as Markdown shows it in a table or a sentence, on one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
