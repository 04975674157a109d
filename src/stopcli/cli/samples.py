"""``stop samples``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.session import session

EXAMPLES = """Examples:
  stop samples samples/
  stop classify --model mini samples/"""


@o.shares(o.Show)
def command(
    show: o.Show,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it is not there.")],
    force: o.Force = False,
) -> None:
    """Copy the bundled clips into a folder, to try the commands on."""
    with session("samples", show) as s:
        from stopcli.tasks.samples import copy_samples

        s.output.add_all(list(copy_samples(folder, force=force)))
