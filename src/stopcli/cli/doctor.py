"""``stop doctor``."""

from __future__ import annotations

import typer

from stopcli.cli import options as o
from stopcli.cli.progress import interruptible
from stopcli.errors import ExitStatus

EXAMPLES = """Examples:\n
  stop doctor\n
  stop doctor --device cuda\n
  stop doctor --format json"""


def command(
    device: o.Device = "auto",
    precision: o.PrecisionOption = o.Precision.auto,
    offline: o.Offline = False,
    format: o.FormatOption = o.Format.auto,
) -> None:
    """Show versions, devices, places and the Hub, and check that the device computes right."""
    with interruptible():
        from stopcli.output.sink import fact_table
        from stopcli.tasks.doctor import diagnose

        facts = diagnose(device, precision.value, offline=offline)
        if format.value in ("json", "jsonl"):
            import json

            status = "ok" if facts.healthy else "error"
            told = {"schema": 1, "command": "doctor", "status": status, "data": [facts.values], "errors": []}
            typer.echo(json.dumps(told if format.value == "json" else facts.values))
        else:
            fact_table(facts.values.items())
    raise typer.Exit(ExitStatus.OK if facts.healthy else ExitStatus.DEVICE)
