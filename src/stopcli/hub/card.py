"""The model card of a fine-tuned model: Markdown with the front matter that the Hub reads."""

from __future__ import annotations

from typing import Any

CARD_FILE = "README.md"
TAGS = ("video", "clip", "stop", "prompt-learning")


def front_matter(config: dict[str, Any], license: str | None) -> str:
    """Return the YAML head: license, library, tags, task."""
    tags = [*TAGS, *([] if config.get("labels") else ["text-to-video-retrieval"])]
    lines = [f"license: {license or 'other'}", "library_name: stopcli", "tags:", *(f"- {t}" for t in tags)]
    if config.get("labels"):
        lines.append("pipeline_tag: video-classification")
    return "---\n" + "\n".join(lines) + "\n---\n"


def model_card(name: str, config: dict[str, Any], license: str | None = None) -> str:
    """Return the card of a model folder.

    Args:
        name: its title.
        config: what its ``config.json`` says.
        license: an SPDX identifier; None is "other".
    """
    training = config.get("training", {})
    metrics = config.get("metrics", {})
    labels = config.get("labels")
    data, settings, made = training.get("data", {}), training.get("settings", {}), training.get("made", {})
    what = f"Tells {len(labels)} classes apart" if labels else "Finds videos by text"
    parts = [
        front_matter(config, license),
        f"# {name}\n",
        f"{what}: STOP prompts (arXiv 2503.15973) on a frozen {config['backbone']['architecture']}, "
        "trained with stopcli.\n",
        "## Use\n",
        "```console\npipx install stopcli\nstop classify --model THIS_FOLDER clip.mp4\n"
        'stop retrieve --model THIS_FOLDER --query "..." videos/\n```\n',
    ]
    if labels:
        parts += ["## Labels\n", ", ".join(str(label) for label in labels) + "\n"]
    parts += ["## Data\n", _table(data), "## Scores\n", _scores(metrics), "## Settings\n", _table(settings)]
    parts += [_table({"started from": training.get("base"), **made}), _command(training.get("command"))]
    parts += [
        "## Limits\n",
        f"It comes from {training.get('origin')}, and knows no more of the world than that.",
        "The scores were measured on the clips named above and on nothing else. Footage of another kind, "
        "place or camera may score lower; classes that are not in the list are never answered. The "
        "backbone's own limits and biases remain.\n",
    ]
    return "\n".join(p for p in parts if p)


def _table(values: dict[str, Any]) -> str:
    rows = [f"| {k} | {_cell(v)} |" for k, v in values.items() if v is not None]
    return "| | |\n|---|---|\n" + "\n".join(rows) + "\n" if rows else ""


def _scores(metrics: dict[str, Any]) -> str:
    names = list(dict.fromkeys(name for scores in metrics.values() for name in scores))
    if not names:
        return "No clip was held out, so nothing was measured.\n"
    head = "| | " + " | ".join(names) + " |\n|---|" + "---|" * len(names) + "\n"
    rows = [
        f"| {which} | " + " | ".join(_cell(scores.get(n, "")) for n in names) + " |"
        for which, scores in metrics.items()
    ]
    return head + "\n".join(rows) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _command(command: Any) -> str:
    return f"```console\n{command}\n```\n" if command else ""
