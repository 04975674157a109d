"""The files that results are written to, beside what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from stopcli.cli import options as o
from stopcli.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from stopcli.cli.session import Session

_html = o.output_option(metavar="FILE", help="Write a page with pictures, for a browser.")
_export = o.output_option(
    metavar="FILE",
    help="Write the moments for other programs: .otio, .edl, .fcpxml, .xml; .srt, .vtt; .eaf, .boris, .json, "
    ".csv; .mp4, .mov, .mkv or .webm with chapters.",
)


@dataclass(frozen=True, kw_only=True)
class Files:
    """Which files are written."""

    html: Annotated[Path | None, _html] = None
    export: Annotated[Path | None, _export] = None
    force: o.Force = False

    def check(self, s: Session, *, moments: bool) -> None:
        """Make sure before any work is done that the files can be written; see `fileio.check_output`."""
        s.output.goes_on = self.html is not None or self.export is not None
        from stopcli.fileio import check_output

        if self.html is not None:
            check_output(self.html, force=self.force, option="--html", suffixes=(".html", ".htm"))
        if self.export is not None:
            from stopcli.output.export import check_export

            if not moments:
                raise UsageError("--export writes moments, and whole files are none; search or label windows")
            check_export(self.export, force=self.force)

    def beside(self, videos: list[Path], *, each: bool = False) -> list[Path]:
        """Return videos, once none of them would be replaced; ``each`` has moments that are written."""
        if self.export is not None:
            from stopcli.output.export import check_export

            check_export(self.export, force=self.force, videos=videos, each=each)
        return videos

    def write(self, s: Session, page: str, videos: Sequence[Path]) -> None:
        """Write the records as a page, `output.html`'s of that name, and their moments for other programs."""
        from stopcli.fileio import exists, write_text
        from stopcli.results import Failure

        records = s.output.records
        looked = page == "hits_page" and s.output.exit_status != ExitStatus.INPUT
        paged = bool(records) or looked  # that there are no hits is an answer, too
        for file, written in ((self.html, paged), (self.export, records)):
            if file is not None and not written and exists(file):
                s.say(f"note: {file} is as it was: there is nothing to write")
        if self.html is not None and paged:
            from stopcli.output import html

            write_text(self.html, getattr(html, page)(records, s.provenance), fresh=not self.force)
            s.say(f"written: {self.html}")
        if self.export is not None and records:
            from stopcli.output.export import export

            for item in export(self.export, records, force=self.force, videos=videos):
                if isinstance(item, Failure):
                    s.output.add(item)
                else:
                    s.say(f"written: {item.path} ({item.description})")
