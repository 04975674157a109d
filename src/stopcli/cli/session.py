"""What every command does around its one library call: output, errors, the model, the videos."""

from __future__ import annotations

import codecs
import errno
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stopcli.cli.options import Batching, Compute, Show
from stopcli.cli.progress import progress_bar, waiting
from stopcli.errors import (
    ExitStatus,
    FileMissing,
    InputError,
    InternalError,
    NothingFound,
    StopError,
    UsageError,
)
from stopcli.fileio import exists, is_folder

if TYPE_CHECKING:
    from stopcli.index.engine import SearchEngine
    from stopcli.index.store import Index
    from stopcli.model.files import ModelFiles
    from stopcli.output.sink import Sink
    from stopcli.runtime.encoder import Encoder, EncoderOptions


MOST_NAMES = 256 << 20  # bytes of a list of files
MOST_NOTES = 5  # of one kind


class Interrupted(StopError):
    """Ctrl-C."""

    exit_status = ExitStatus.INTERRUPTED


class _NothingUsable(Exception):
    """All inputs are faulty and have been reported: there is nothing to do."""


@dataclass
class Session:
    """One run of one command."""

    output: Sink
    show: Show = field(default_factory=Show)
    compute: Compute = field(default_factory=Compute)
    batching: Batching = field(default_factory=lambda: Batching(batch_size=None))

    def say(self, text: str) -> None:
        """Talk to the user, on stderr, unless --quiet."""
        self.output.say(text)

    @property
    def options(self) -> EncoderOptions:
        """How the model is run."""
        from stopcli.runtime.encoder import EncoderOptions

        c, b = self.compute, self.batching
        return EncoderOptions(c.device, c.precision, b.batch_size, c.frames, b.compile)

    def resolve(self, name: str | None = None, *, refresh: bool = False) -> ModelFiles:
        """Find the files of a model, by default that of --model; fetch what is not here."""
        if self.compute.offline:
            os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported
        if self.show.quiet:
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from stopcli.hub.registry import resolve
        from stopcli.settings import default_model

        name = name or self.compute.model or default_model()
        say = lambda words: self.say(f"note: {words}")  # noqa: E731
        return resolve(name, offline=self.compute.offline, refresh=refresh, say=say)

    def find(self, name: str | None = None) -> ModelFiles:
        """Find the files of a model to work with, and say of the bundled one what it knows."""
        from stopcli.hub.named import MINI

        if self.compute.device != "auto":  # report a missing device before fetching anything
            from stopcli.runtime.device import checked_device

            checked_device(self.compute.device)
        files = self.resolve(name)
        if files.name == MINI:
            self.say("note: mini knows only its generated world; real footage needs a real model")
        if self.compute.fit != "auto":
            own, fit = files.preprocess.fit, self.compute.fit
            files = files.fitted(fit)
            if fit != own:
                self.say(f"note: {files.name} was trained on frames fitted by {own}, not by {fit}")
        if self.compute.sampling != "auto":
            files = files.sampled(self.compute.sampling)
        return files.focused(self.compute.strength)

    @cached_property
    def files(self) -> ModelFiles:
        """The files of the model to work with."""
        return self.find()

    def require_prompts(self) -> None:
        """Refuse a model without prompts before it is loaded, a named one before it is fetched."""
        from stopcli.hub.named import ENTRIES, MINI
        from stopcli.settings import default_model
        from stopcli.tasks.explain import NOTHING_TO_SHOW

        entry = ENTRIES.get(self.compute.model or default_model())
        plain = entry is not None and entry.name != MINI and entry.prompts is None
        if not self.compute.strength and (plain or self.files.config.stop is None):
            raise UsageError(NOTHING_TO_SHOW)

    @cached_property
    def encoder(self) -> Encoder:
        """The model, loaded onto its device."""
        return self.load(self.files)

    def load(self, files: ModelFiles) -> Encoder:
        """Load a model onto the device."""
        with waiting(f"loading {files.name}", quiet=self.show.quiet):
            from stopcli.video.workers import prefetch
            from stopcli.video.workers.pool import warm

            warm(min(self.output.inputs, prefetch.readers()))  # they start while torch is imported
            from stopcli.runtime.device import device_name
            from stopcli.runtime.encoder import Encoder

            encoder = Encoder(files, self.options)
        if self.show.verbose:
            self.say(f"device: {device_name(encoder.device)} ({encoder.device_reason})")
            self.say(f"precision: {encoder.precision} ({encoder.precision_reason})")
            self.say(f"frames: {encoder.frames} a clip; batch: {encoder.batch_size} clips")
        return encoder

    def videos(
        self, paths: Sequence[Path] | None, files_from: Path | None = None, *, away: bool = False
    ) -> list[Path]:
        """Return the videos that are named; what does not exist is reported, unless it may be ``away``."""
        from stopcli.results import Failure
        from stopcli.video.discovery import find_videos

        named = _named(paths, files_from)
        missing = [p for p in named if not (exists(p) if away else os.path.lexists(p))]
        if not away:
            self.output.add_all(Failure.of(p, FileMissing(f"{p}: {_absence(p)}")) for p in missing)
        if len(missing) == len(named) and not away:
            raise _NothingUsable
        gone = set(missing)
        found = list(dict.fromkeys(find_videos([p for p in named if p not in gone])))
        if not found and not away:
            raise NothingFound(f"no video found in {', '.join(map(str, named[:3]))}")
        self.output.inputs = len(found) + len(missing)
        return found

    def watched(self, what: str, total: int, items: Iterable[Any]) -> Iterator[Any]:
        """Yield results (that have a path) while a bar shows how many files are done."""
        with self.progress(what, total) as done:
            for item in items:
                yield item
                done(str(item.path), getattr(item, "end", None))

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[..., None]]:
        """Show a bar over ``total`` files; gives what `progress_bar` does."""
        return progress_bar(what, total, quiet=self.show.quiet)

    @staticmethod
    def roots(paths: Sequence[Path] | None, *, away: bool = False) -> list[Path]:
        """Return the folders among the paths: what is walked whole, or may be ``away``."""
        from stopcli.video.discovery import as_spelled

        return [p for p in map(as_spelled, paths or ()) if is_folder(p) or (away and not exists(p))]

    @property
    def provenance(self) -> str:
        """How the results were made, in one line."""
        loaded = "encoder" in self.__dict__
        settings = self.encoder.describe() if loaded else {"model": self.files.name}
        return ", ".join(f"{name} {value}" for name, value in settings.items() if not name.endswith("_key"))

    def note_cut(self, texts: Sequence[str]) -> None:
        """Say which texts are longer than the model reads: their ends make no difference."""
        from stopcli.data.tablefile import short
        from stopcli.runtime.text import cut_texts

        brief = self.files.words is None  # another vocabulary than CLIP's takes half a minute the first time
        with waiting(f"reading the vocabulary of {self.files.name}", quiet=self.show.quiet or brief):
            cut = cut_texts(self.files, texts)
        for text, words in list(cut.items())[:MOST_NOTES]:
            self.say(f"note: {short(text)!r} is too long; not read: {short(' '.join(words))!r}")
        if len(cut) > MOST_NOTES:
            self.say(f"note: ... and of {len(cut) - MOST_NOTES} more texts")

    def note_alike(self, labels: Sequence[str], template: str | None = None) -> None:
        """Say which labels the model cannot tell apart, for it reads the same in them."""
        from stopcli.data.labels import prompts_for
        from stopcli.runtime.head import alike

        encoder = self.encoder
        if encoder.head is not None and encoder.head.of(labels, template) is not None:
            return
        texts = encoder.encode_texts(prompts_for(labels, self.files.config, template))
        if groups := alike(labels, texts):
            names = " and ".join(map(repr, groups[0][:2]))
            more = sum(map(len, groups))
            few = f"{names} are" if more == 2 else f"{more} of {len(labels)} labels, {names} among them, are"
            self.say(f"warning: {few} the same to this model; stop finetune learns them from clips")

    def engine(
        self, folder: Path | None, cuts: str = "auto", load: Callable[[], Encoder] | None = None
    ) -> SearchEngine:
        """Open an index with the model, which is loaded when it is needed, here or as ``load`` does."""
        from stopcli.index.engine import SearchEngine
        from stopcli.index.store import default_folder

        precision = None if self.compute.precision == "auto" else self.compute.precision
        return SearchEngine(
            folder or default_folder(),
            self.files,
            load or (lambda: self.encoder),
            precision=precision,
            frames=self.compute.frames,
            cuts=None if cuts == "auto" else cuts == "on",
            say=self.say,
            progress=lambda total: self.progress("indexing", total),
        )

    def index_folder(self, folder: Path | None, *, create: bool = False) -> Path:
        """Return where the index is; one that is named must be there, unless it may be created."""
        from stopcli.index.store import DATABASE, default_folder

        if folder is not None and not create and not (folder / DATABASE).exists():
            raise FileMissing(f"{folder}: holds no index; 'stop index update' makes one")
        return folder or default_folder()

    def index(self, folder: Path | None, *, create: bool = False) -> Index:
        """Open an index alone, as `index_folder` finds it."""
        from stopcli.index.store import Index

        return Index(self.index_folder(folder, create=create), say=self.say)


@contextmanager
def session(
    command: str,
    show: Show,
    compute: Compute | None = None,
    batching: Batching | None = None,
    *,
    kept: str = "",
) -> Iterator[Session]:
    """Show a command's records, report its errors, handle Ctrl-C (``kept`` stays) and a closed pipe."""
    from stopcli.output.sink import Sink

    if show.null and not (show.quiet and show.format in ("auto", "table")):
        raise UsageError("-0 ends the lines of -q with NUL; give -q too, and no other --format")
    output = Sink(command, show.format, quiet=show.quiet, null=show.null, raw=show.raw)
    run = Session(output, show, compute or Compute(), batching or Batching(batch_size=None))
    with warnings.catch_warnings():
        if not show.verbose:
            warnings.simplefilter("ignore")
        try:
            with output:
                try:
                    yield run
                except KeyboardInterrupt:
                    raise Interrupted("interrupted" + (f"; {kept}" if kept else "")) from None
                except _NothingUsable:
                    pass
                except Exception as error:
                    output_fails = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO)
                    known = isinstance(error, (StopError, BrokenPipeError, typer.Exit)) or output_fails
                    if show.verbose or known:
                        raise
                    raise InternalError.of(error) from error
        except BrokenPipeError:  # the reader has seen enough, as with `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from None
    if output.exit_status:
        raise typer.Exit(int(output.exit_status))


def _absence(path: Path) -> str:
    address = re.match(r"[a-z][a-z0-9+.-]+:/", str(path))
    return "an address; only files are read, so download it first" if address else "no such file or folder"


def _expanded(path: Path) -> list[Path]:
    """Return what a pattern stands for on Windows, where shells leave it as it is; else the path itself."""
    if os.name != "nt" or os.path.lexists(path) or not {"*", "?"} & set(str(path)):
        return [path]
    return sorted(map(Path, glob(str(path)))) or [path]  # noqa: PTH207 - of any folder


def _named(paths: Sequence[Path] | None, files_from: Path | None) -> list[Path]:
    """Return what arguments and lists name; raises UsageError if that is nothing."""
    from stopcli.video.discovery import as_spelled

    named: list[Path] = []
    for path in paths or ():
        named += _listed(path) if str(path) == "-" else _expanded(path)
    if files_from is not None:
        named += _listed(files_from)
    if not named:
        raise UsageError("no video named; give files or folders, or --files-from a list")
    return [as_spelled(path) for path in named]


def _listed(source: Path) -> list[Path]:
    try:
        with nullcontext(sys.stdin.buffer) if str(source) == "-" else source.open("rb") as stream:
            raw = stream.read(MOST_NAMES + 1)
    except OSError as error:
        raise InputError(f"--files-from {source}: {error.strerror}") from error
    if len(raw) > MOST_NAMES:
        raise InputError(f"--files-from {source}: larger than {MOST_NAMES >> 20} MB; is it a list of files?")
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if raw.startswith(mark):  # as Windows' Notepad and PowerShell write it
            raw = raw.decode(encoding, errors="replace").encode()
    raw = raw.removeprefix(codecs.BOM_UTF8)
    parts = raw.split(b"\0") if b"\0" in raw else raw.splitlines()
    try:
        return [Path(os.fsdecode(part)) for part in parts if part.strip()]
    except UnicodeDecodeError as error:  # on Windows, where names are text
        raise InputError(
            f"--files-from {source}: not UTF-8 or UTF-16; write the list in one of them"
        ) from error
