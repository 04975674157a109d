"""``stop doctor``."""

from __future__ import annotations

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
    precision: o.PrecisionName = o.Precision.auto,
    offline: o.Offline = False,
) -> ExitStatus:
    """Show versions, devices and folders, and check that the device computes correctly."""
    with session("doctor", show) as s:
        from stopcli.tasks.doctor import diagnose

        diagnosis = diagnose(device, precision.value, offline=offline)
        s.output.add(diagnosis)
    return s.exit_status if diagnosis.healthy else ExitStatus.DEVICE
