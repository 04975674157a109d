"""``stop doctor``."""

from __future__ import annotations

import typer

from stopcli.cli import options as o
from stopcli.cli.session import session
from stopcli.errors import ExitStatus

EXAMPLES = """Examples:
  stop doctor
  stop doctor --device cuda
  stop doctor --format json"""


@o.shares(o.Show)
def command(
    show: o.Show,
    device: o.DeviceName = "auto",
    precision: o.PrecisionName = "auto",
    offline: o.Offline = False,
) -> None:
    """Show versions, devices and folders, and check the device."""
    with session("doctor", show) as s:
        from stopcli.tasks.doctor import diagnose

        diagnosis = diagnose(device, precision, offline=offline)
        s.output.add(diagnosis)
        if not diagnosis.healthy:
            raise typer.Exit(int(ExitStatus.DEVICE))
