"""``stop watch``."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.retrieve import Index
from stopcli.cli.session import Session, session
from stopcli.errors import FileMissing, IndexBusy, UsageError
from stopcli.fileio import is_file, is_folder

if TYPE_CHECKING:
    from stopcli.index.engine import SearchEngine
    from stopcli.index.live.seen import Seen
    from stopcli.index.types import SearchRequest, SearchResult
    from stopcli.results import Failure, Hit

EXAMPLES = """Examples:
  stop watch trail-camera/ --query "a fox"
  stop watch uploads/ --query "a person" --exec 'sh -c "echo $STOP_PATH at $STOP_START >> people.txt"'"""

STDERR = 2
ALARM = 0.99  # confidence: every new file is another chance of a false alarm
EVERY = 1 << 30  # hits: all that are sure enough

_folder = typer.Argument(metavar="DIR", help="The folder to watch, with those below it.")
_query = typer.Option(metavar="TEXT|@FILE", help="What to look for; may be given again.")
_command = o.output_option("--exec", metavar="CMD", help="Run this for each moment, without a shell.")
_settle = o.input_option(
    metavar="SECONDS", min=0.1, help="A file is whole when it has not changed for so long."
)
_existing = o.input_option("--existing", help="Look at the videos that are there already, too.")
_sure = typer.Option(
    metavar="0..1", min=0, max=1, help="Only moments at least so sure. Default: 0.99; 0.9 for learned labels."
)


@o.shares(o.Focused, o.Batching, o.Show)
def command(
    *,
    folder: Annotated[Path, _folder],
    query: Annotated[list[str], _query],
    min_confidence: Annotated[float | None, _sure] = None,
    window: o.SearchWindow = 8.0,
    cuts: o.Cuts = "auto",
    settle: Annotated[float, _settle] = 3.0,
    existing: Annotated[bool, _existing] = False,
    compute: o.Focused,
    batching: o.Batching,
    index: Index = None,
    execute: Annotated[str | None, _command] = None,
    show: o.Show,
) -> None:
    """Say when a video arrives that shows what you look for.

    It ends with Ctrl-C. A video is searched when it has stopped growing, one time for the same queries, even
    if the watch is started again. CMD gets the path, start, end and query as arguments, and as STOP_PATH,
    STOP_START, STOP_END and STOP_QUERY; STOP_SCORE and STOP_CONFIDENCE are set, too.
    """
    lines = replace(show, format="quiet" if show.format in ("auto", "table") else show.format)  # type: ignore[arg-type]
    with session("watch", lines, compute, batching, kept="what was seen is kept") as s:
        from stopcli.data.labels import expanded
        from stopcli.index.types import Filters, SearchRequest

        began, words = _check(folder), _words(execute)
        query = list(expanded(query))
        s.note_cut(query)
        s.output.several = len(query) > 1
        request = SearchRequest(tuple(query), window=window, filters=Filters(top_k=EVERY))
        least = _least(s, query) if min_confidence is None else min_confidence
        with s.engine(index, cuts) as engine, _seen(engine, folder, request, least) as seen:
            engine.ask(request)  # a fault of the queries, or of the model, shows now
            _begin(s, seen, folder, began, existing=existing)
            s.say(f"watching {folder} for {', '.join(map(repr, query))}; Ctrl-C ends it")
            for item in _found(s, engine, seen, folder, request, settle, least, words):
                s.output.add(item)


def _least(s: Session, queries: list[str]) -> float:
    """Return how sure a moment must be: what was learned of a label is measured by the other labels."""
    from stopcli.index.calibration import SURE

    config = s.files.config
    learned = config.head is not None and not set(queries).isdisjoint(config.labels or ())
    return SURE if learned else ALARM


def _contents(seen: Seen, folder: Path, began: float) -> Iterator[str]:
    """Yield what the videos in a folder hold that came before a time, as far as they can be read."""
    from stopcli.video.discovery import find_videos

    for path in find_videos([folder]):
        with suppress(OSError):
            if path.stat().st_ctime < began:
                yield seen.content_of(path)


def _begin(s: Session, seen: Seen, folder: Path, began: float, *, existing: bool) -> None:
    """Pass over what is there when the queries are new, and say so; or look at it after all."""
    passed = list(_contents(seen, folder, began)) if seen.new and not existing else []
    seen.skip(passed)
    if existing:
        seen.take_back()
    if passed:
        s.say(
            f"note: videos that are there already ({len(passed)}) are not searched; --existing searches them"
        )


def _check(folder: Path) -> float:
    """Return since when a folder is watched: now; raises FileMissing if there is none."""
    if not is_folder(folder):
        raise FileMissing(f"{folder}: no such folder; name the folder that videos arrive in")
    return time.time()


def _words(execute: str | None) -> list[str]:
    """Return a command's words; raises UsageError."""
    try:
        splitter = shlex.shlex(execute or "", posix=True, punctuation_chars=False)
        splitter.whitespace_split, splitter.commenters = True, ""
        if os.name == "nt":
            splitter.escape = ""  # it separates folders there
        words = list(splitter)
    except ValueError as error:
        raise UsageError(f"--exec {execute!r}: {error}".lower()) from error
    found = shutil.which(words[0]) if words else ""
    if found is None:
        problem = "no such program; name one that can be run"
        if is_file(words[0]) and os.name != "nt":
            runs = os.access(words[0], os.X_OK)
            problem = (
                f"is not on the PATH; give ./{words[0]}"
                if runs
                else "cannot be run; make it executable (chmod +x)"
            )
        raise UsageError(f"--exec {words[0]}: {problem}")
    if found.lower().endswith((".bat", ".cmd")):  # Windows runs what it finds in their arguments
        raise UsageError(
            f"--exec {words[0]}: a batch file may run names of videos; name a program, or a script's"
        )
    return words


def _seen(engine: SearchEngine, folder: Path, request: SearchRequest, least: float) -> Seen:
    """Open what this watch has seen: of this folder, for these queries, by this model."""
    from stopcli.fileio import to_json
    from stopcli.index.live.seen import Seen

    place = os.path.abspath(folder)  # noqa: PTH100 - resolve() would follow links
    asked = [place, sorted(request.texts), request.window, least, engine.settings]
    return Seen(engine.index.folder, to_json(asked))


def _found(
    s: Session,
    engine: SearchEngine,
    seen: Seen,
    folder: Path,
    request: SearchRequest,
    settle: float,
    least: float,
    words: list[str],
) -> Iterator[Hit | Failure]:
    """Yield the moments of what arrives, and what cannot be searched; each content once."""
    from stopcli.index.calibration import stand_out
    from stopcli.index.live.arrivals import arrivals
    from stopcli.index.types import PASSING
    from stopcli.results import Failure

    again: set[Path] = set()  # what could not be read may be readable later
    reported: set[Failure] = set()
    for path in arrivals(folder, settle, s.say, again):
        again.discard(path)
        try:
            content = seen.content_of(path)
            if content in seen:
                continue
            result = _searched(s, engine, request, path)
        except OSError as error:
            failure = Failure(str(path), "unreadable-video", f"{path}: cannot be read ({error.strerror})")
            again.add(path)
            yield from {failure} - reported
            reported.add(failure)
            continue
        for hit in stand_out(result.hits, least, every=True)[0]:
            yield hit
            if words:
                _run(s, words, hit)
        yield from set(result.failures) - reported
        reported |= set(result.failures)
        if any(failure.error in PASSING for failure in result.failures):
            again.add(path)
        else:
            seen.add(content)


def _searched(s: Session, engine: SearchEngine, request: SearchRequest, path: Path) -> SearchResult:
    """Search a video, however long another process writes to the index."""
    while True:
        try:
            return engine.search(request, [path], [])
        except IndexBusy as error:
            s.say(f"note: waiting: {error}")


def _run(s: Session, words: list[str], hit: Hit) -> None:
    """Run a command for a moment; say what went wrong."""
    from stopcli.output.sink import no_option

    place = {
        "PATH": no_option(hit.path),
        "START": f"{hit.start or 0:.3f}",
        "END": f"{hit.end or 0:.3f}",
        "QUERY": hit.query,
    }
    more = {"SCORE": f"{hit.score:.4f}", "CONFIDENCE": f"{hit.confidence or 0:.4f}"}
    environment = {**os.environ, **{f"STOP_{name}": value for name, value in (place | more).items()}}
    try:
        done = subprocess.run(  # what it prints does not stand between our lines
            [*words, *place.values()], env=environment, stdin=subprocess.DEVNULL, stdout=STDERR, check=False
        )
        if done.returncode:
            s.say(f"warning: {words[0]} ended with status {done.returncode} for {hit.path}")
    except OSError as error:
        s.say(f"warning: {words[0]} cannot be run ({error.strerror})")
