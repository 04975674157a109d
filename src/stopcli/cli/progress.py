"""What is shown on a terminal while a command runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def waiting(what: str, *, quiet: bool) -> Iterator[None]:
    """Show a spinner on a terminal's stderr while something is awaited."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@contextmanager
def progress_bar(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show progress over ``total`` files, with rate and time left; yield what to call a file done.

    Nothing is shown unless stderr is a terminal.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f}/s" if speed else "", style="dim")

    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=total)
        seen: set[str] = set()

        def done(path: str) -> None:
            if path not in seen:  # windows of one file count once
                seen.add(path)
                bar.update(task, completed=len(seen))

        yield done
