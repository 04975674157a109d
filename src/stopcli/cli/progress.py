"""What is shown on a terminal's stderr while a command runs; elsewhere, nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath

from stopcli.results import printable


@contextmanager
def waiting(what: str, *, quiet: bool) -> Iterator[None]:
    """Show a spinner while something is awaited."""
    if not quiet:
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal:
            with console.status(what):
                yield
            return
    yield


class Bar:
    """A progress bar with a few words beside it."""

    def __init__(self, what: str, total: int, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        words = TextColumn("{task.fields[words]}", style="dim", markup=False)
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), words, TimeRemainingColumn())
        hidden = quiet or not console.is_terminal
        self._progress = Progress(*columns, console=console, transient=True, disable=hidden)
        self._progress.start()
        self._task = self._progress.add_task(what, total=total, words="")

    def update(self, completed: int, words: str | None = None) -> None:
        """Show how much is done; without words of their own, how much a second."""
        speed = self._progress.tasks[0].speed
        rate = f"{speed:.1f}/s" if speed else ""
        self._progress.update(self._task, completed=completed, words=rate if words is None else words)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def clock(seconds: float) -> str:
    """Return a time in a film: 1:02:05."""
    minutes, s = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"


@contextmanager
def progress_bar(what: str, total: int, *, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show progress over ``total`` files; yield what to call with the path of each that is done.

    Called with a time as well (seconds), it shows how far into a long file the work has come.
    """
    bar, seen, current = Bar(what, total, quiet=quiet), set[str](), ""

    def done(path: str, until: float | None = None) -> None:
        nonlocal current
        if until is None or current not in ("", path):
            seen.add(path if until is None else current)
        current = path
        bar.update(
            len(seen), None if until is None else f"{printable(PurePath(path).name)} at {clock(until)}"
        )

    try:
        yield done
    finally:
        bar.close()
