"""The options that commands share, and what they become at the border."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stopcli.cli.progress import progress_bar, waiting
from stopcli.errors import InputError, NothingFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stopcli.index.database import Index
    from stopcli.index.engine import SearchEngine
    from stopcli.model.files import ModelFiles
    from stopcli.output.sink import Output
    from stopcli.results import Hit
    from stopcli.runtime.encoder import Encoder


class Precision(str, Enum):
    """Values of --precision."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Format(str, Enum):
    """Values of --format."""

    auto = "auto"
    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|hf:ORG/REPO|PATH",
        help="A name ('stop models list'), a Hub repository, or a model folder.",
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", metavar="auto|cpu|cuda[:N]|mps", help="Where to compute."),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", help="auto is bf16 where the hardware is fast at it."),
]
BatchSize = Annotated[
    str,
    typer.Option("--batch-size", metavar="auto|N", help="Clips computed at once."),
]
FrameCount = Annotated[
    int | None,
    typer.Option(
        "--frames",
        metavar="N",
        help="Frames of each clip; default: what the model was made for.",
    ),
]
Compile = Annotated[
    bool,
    typer.Option("--compile", help="torch.compile on CUDA: slow to start, then faster."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Make no request; use what is cached.")]
FormatOption = Annotated[Format, typer.Option("--format", help="auto is a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print paths or labels only.")]
Null = Annotated[bool, typer.Option("-0", help="With -q: end each line with NUL, for xargs -0.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what was chosen, and why.")]
FilesFrom = Annotated[
    Path | None,
    typer.Option(
        "--files-from",
        metavar="FILE",
        allow_dash=True,
        help="Read more paths from a file, one a line or NUL-separated; - is stdin.",
    ),
]
Window = Annotated[
    float | None, typer.Option("--every", metavar="SECONDS", help="Cut videos into windows of this length.")
]
TopK = Annotated[int, typer.Option("--top-k", "-k", metavar="N", help="How many to show.")]


Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page with pictures, for a browser.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file.")]
IndexFolder = Annotated[
    Path | None,
    typer.Option("--index", metavar="DIR", help="Where the index is kept; default: 'stop index info' says."),
]


def _show_help(context: typer.Context, asked: bool) -> None:
    if asked:
        typer.echo(context.get_help())
        raise typer.Exit


Help = Annotated[
    bool,
    typer.Option("--help", "-h", callback=_show_help, is_eager=True, help="Show this message and exit."),
]
"""For groups of commands; commands have Typer's own."""


@dataclass(frozen=True)
class Common:
    """The shared options, checked."""

    model: str | None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    frames: int | None = None
    compile: bool = False
    offline: bool = False
    format: str = "auto"
    quiet: bool = False
    null: bool = False
    verbose: bool = False

    @classmethod
    def check(cls, *, batch_size: str, frames: int | None, **rest: Any) -> Common:
        """Build from raw option values.

        Raises:
            UsageError: a number out of range.
        """
        if batch_size != "auto" and not (batch_size.isdecimal() and 1 <= int(batch_size) <= 4096):
            raise UsageError(f"--batch-size must be auto or between 1 and 4096, got {batch_size}")
        if frames is not None and not 1 <= frames <= 64:
            raise UsageError(f"--frames must be between 1 and 64, got {frames}")
        size = None if batch_size == "auto" else int(batch_size)
        return cls(batch_size=size, frames=frames, **rest)

    def say(self, text: str) -> None:
        """Talk to the user, on stderr."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def output(self, command: str) -> Output:
        """Return where the command's records go."""
        from stopcli.output.sink import Output

        return Output(command, self.format, quiet=self.quiet, null=self.null)

    def files(self, *, refresh: bool = False) -> ModelFiles:
        """Find the model's files; with ``refresh``, ask for newer ones.

        Raises:
            ModelError: one of its kinds.
        """
        if self.offline:
            os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported
        from stopcli.hub.registry import resolve
        from stopcli.settings import default_model

        if self.quiet:
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        return resolve(self.model or default_model(), offline=self.offline, refresh=refresh)

    def introduce(self, files: ModelFiles) -> None:
        """Say of a model that knows only a toy world that it does."""
        from stopcli.hub.registry import ENTRIES, MINI

        if files.origin == MINI:
            self.say(f"note: mini {ENTRIES[MINI].description}; real footage needs a real model")

    def encoder(self, files: ModelFiles | None = None) -> Encoder:
        """Load the model onto the device; one that is given has been introduced already.

        Raises:
            ModelError, DeviceError: one of their kinds.
        """
        import warnings

        if not self.verbose:
            warnings.filterwarnings("ignore")
        if files is None:
            files = self.files()
            self.introduce(files)
        with waiting(f"loading {files.name}", quiet=self.quiet):
            from stopcli.runtime.device import device_name
            from stopcli.runtime.encoder import Encoder, EncoderOptions

            options = EncoderOptions(self.device, self.precision, self.batch_size, self.frames, self.compile)
            encoder = Encoder(files, options)
        if self.verbose:
            self.say(f"device: {device_name(encoder.device)} ({encoder.device_reason})")
            self.say(f"precision: {encoder.precision} ({encoder.precision_reason})")
            self.say(f"frames: {encoder.frames} a clip; batch: {encoder.batch_size} clips")
        return encoder


def check_window(window: float | None) -> None:
    """Refuse windows that are no windows.

    Raises:
        UsageError: not a positive number of seconds.
    """
    if window is not None and not 0.1 <= window <= 86400:
        raise UsageError(f"--every must be between 0.1 and 86400 seconds, got {window:g}")


def check_top_k(top_k: int) -> None:
    """Refuse to show nothing.

    Raises:
        UsageError: less than 1.
    """
    if top_k < 1:
        raise UsageError(f"--top-k must be at least 1, got {top_k}")


def gather(paths: Sequence[Path] | None, files_from: Path | None = None) -> list[Path]:
    """Return the videos that arguments, folders and lists name.

    Raises:
        UsageError: nothing was named. NothingFound: the folders hold no video.
        InputError: the list cannot be read.
    """
    from stopcli.video.discovery import find_videos

    named: list[Path] = []
    for path in paths or ():
        named += _listed(path) if str(path) == "-" else [path]
    if files_from is not None:
        named += _listed(files_from)
    if not named:
        raise UsageError("no video named; give files or folders, or --files-from a list")
    found = list(dict.fromkeys(find_videos(named)))
    if not found:
        raise NothingFound(f"no video found in {', '.join(map(str, named[:3]))}")
    return found


def _listed(source: Path) -> list[Path]:
    try:
        raw = sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
    except OSError as error:
        raise InputError(f"--files-from {source}: {error.strerror}") from error
    parts = raw.split(b"\0") if b"\0" in raw else raw.splitlines()
    return [Path(os.fsdecode(part)) for part in parts if part.strip()]


def roots(paths: Sequence[Path] | None) -> list[Path]:
    """Return the folders among the paths: what is walked whole."""
    return [p for p in paths or () if p.is_dir()]


def show_preview(common: Common, hits: Sequence[Hit]) -> None:
    """Print filmstrips, where there is a terminal to print them on."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        common.say("note: --preview needs a terminal; --html FILE writes a page")
        return
    from stopcli.output.terminal import show

    show(console, hits)


@contextmanager
def open_index(folder: Path | None) -> Iterator[Index]:
    """Open the index named, or the default one."""
    from stopcli.index.database import Index, default_folder

    with Index(folder or default_folder()) as index:
        yield index


@contextmanager
def archive(common: Common, folder: Path | None) -> Iterator[SearchEngine]:
    """Open an index with the model of the shared options; the model is loaded when it is needed."""
    from stopcli.index.database import default_folder
    from stopcli.index.engine import SearchEngine

    files = common.files()
    common.introduce(files)
    with SearchEngine(
        folder or default_folder(), files, lambda: common.encoder(files),
        precision=None if common.precision == "auto" else common.precision, frames=common.frames,
        say=common.say, watch=lambda total: progress_bar("indexing", total, quiet=common.quiet),
    ) as opened:  # fmt: skip
        yield opened
