"""``stop retrieve``."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.completion import complete_index
from stopcli.cli.files import Files
from stopcli.cli.session import Session, session
from stopcli.errors import UsageError
from stopcli.fileio import is_folder

if TYPE_CHECKING:
    from stopcli.index.types import Example, SearchRequest, SearchResult
    from stopcli.results import Failure, Hit

EXAMPLES = """Examples:
  stop retrieve "a man cooking" videos/
  stop retrieve --query "a fox" --not "a dog" trail-camera/ --html hits.html
  stop retrieve --like interview.mp4@1:23 videos/
  stop retrieve "a goal" match.mkv --save-clips goals/ --pad 2
  stop retrieve --like example.mp4 --whole videos/ -q -0 | xargs -0 ls -l"""

DEEP = 200  # hits of a query that are looked at for those that are sure
search_option = partial(typer.Option, rich_help_panel="Search")
_query = search_option(metavar="TEXT|@FILE", help="What to look for; may be given again.")
_unlike = search_option("--not", metavar="TEXT", help="Leave out what this describes better.")
_like = search_option(metavar="FILE[@TIME]", help="What to be like: a video, or a moment (1:23.5) of it.")
_image = search_option(metavar="FILE", help="A picture as a query; may be given again.")
_and = search_option("--and", metavar="TEXT", help="Hits must fit this too; may be given again.")
_combine = search_option("--combine", help="All queries are one: what is like all of them.")
_min_score = search_option(metavar="COSINE", help="Leave out hits below this.")
_sure = search_option(
    metavar="0..1",
    min=0,
    max=1,
    help="Drop less confident hits. Default: one hit per query must reach 0.9; each, with -q, --export or "
    "--save-clips.",
)
_per_file = search_option(metavar="N", min=1, help="At most N hits of one file.")
_all = search_option("--all", help="Show copies of a moment in other files as hits of their own.")
_away = search_option("--away", help="Search what is known of files on drives that are not there, too.")
_glob = search_option(metavar="PATTERN", help="Only paths like this: '*/2021/*'.")
_min_duration = search_option(metavar="SECONDS", parser=o.seconds, help="Only files at least this long.")
_max_duration = search_option(metavar="SECONDS", parser=o.seconds, help="Only files at most this long.")
_index = o.input_option("--index", metavar="DIR", autocompletion=complete_index, help="The index's folder.")
_preview = o.output_option("--preview", help="Draw each hit in the terminal.")
_save = o.output_option(metavar="DIR", help="Save each hit's moment as a clip in a folder.")
Index = Annotated[Path | None, _index]
PerFile = Annotated[int | None, _per_file]
SaveClips = Annotated[Path | None, _save]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is looked for, where, and which of the matches are shown."""

    paths: o.Paths = None
    query: Annotated[list[str] | None, _query] = None
    unlike: Annotated[list[str] | None, _unlike] = None
    like: Annotated[list[str] | None, _like] = None
    image: Annotated[list[Path] | None, _image] = None
    narrow: Annotated[list[str] | None, _and] = None
    combine: Annotated[bool, _combine] = False
    min_confidence: Annotated[float | None, _sure] = None
    min_score: Annotated[float | None, _min_score] = None
    per_file: PerFile = None
    unfolded: Annotated[bool, _all] = False
    glob: Annotated[str | None, _glob] = None
    min_duration: Annotated[float | None, _min_duration] = None
    max_duration: Annotated[float | None, _max_duration] = None
    window: o.SearchWindow = 8.0
    cuts: o.Cuts = "auto"
    whole: o.Whole = False
    files_from: o.FilesFrom = None
    away: Annotated[bool, _away] = False
    top_k: o.TopK = 10

    def request(self, *, every: bool) -> SearchRequest:
        """Return what the index is asked; raises UsageError if nothing is looked for.

        With ``every``, more than is shown: what is sure may come behind what is not.
        """
        from stopcli.data.labels import expanded
        from stopcli.index.types import Filters, SearchRequest

        if not (self.query or self.like or self.image):
            paths = self.paths or []
            first = str(paths[0]) if len(paths) > 1 else "."
            if set(first) != {"."} and os.sep not in first and is_folder(first):
                word = f"to look for the word, give --query {shlex.quote(first)}"
                raise UsageError(
                    f"nothing to look for: {first!r} is taken as the folder of that name; {word}"
                )
            raise UsageError("nothing to look for; put a sentence first, or give --query, --like or --image")
        window = None if self.whole else self.window
        examples = tuple(example(text) for text in self.like or ())
        lengths = self.min_duration, self.max_duration
        filters = Filters(
            max(self.top_k, DEEP) if every else self.top_k,
            self.min_score,
            self.glob,
            *lengths,
            self.per_file,
            fold=not self.unfolded,
            away=self.away,
        )
        texts, unlike, narrow = map(expanded, (self.query, self.unlike, self.narrow))
        pictures = tuple(self.image or ())
        return SearchRequest(texts, unlike, examples, pictures, narrow, self.combine, window, filters)

    def _filters(self) -> dict[str, object]:
        return {
            "--glob": self.glob,
            "--min-score": self.min_score is not None,
            "--min-duration": self.min_duration,
            "--max-duration": self.max_duration is not None,
            "--not": self.unlike,
        }

    def sort_out(
        self, result: SearchResult, *, every: bool, say: Callable[[str], object] = lambda _: None
    ) -> tuple[list[Hit], list[Failure]]:
        """Return the hits to show, and what is said of queries that nothing matches.

        With ``every``, each hit must be so sure by itself, for something is done with it.
        """
        from stopcli.errors import NoMatch
        from stopcli.index.calibration import SURE, stand_out
        from stopcli.results import Failure, span

        least = SURE if self.min_confidence is None else self.min_confidence
        sure, nearest = stand_out(result.hits, least, every=every)
        hits: list[Hit] = []
        for query, mine in ((query, list(group)) for query, group in groupby(sure, attrgetter("query"))):
            hits += [replace(hit, rank=rank) for rank, hit in enumerate(mine[: self.top_k], 1)]
            if (more := len(mine) - self.top_k) > 0 and every and least > 0:
                others = f"{more} more" if len(mine) < DEEP else "more"
                say(f"note: {query!r} has {others} moments that are as sure; -k {DEEP} takes them, too")
        given = [name for name, value in self._filters().items() if value]
        why = f"nothing passes {' and '.join(given)}" if given else "there is nothing to look at"
        found = {hit.query for hit in result.hits}
        lacking = [f" for {name!r}" for name in dict.fromkeys(result.queries) if name not in found]
        lacking = lacking if found else [""]
        missed = [Failure(None, NoMatch().kind, f"no hits{name}: {why}") for name in lacking]
        for hit in nearest:
            moment = f"{hit.path} {span(hit.start, hit.end)}".strip()
            how = "too few moments to tell how sure that is"
            if hit.confidence is not None:
                how = f"confidence {math.floor(100 * hit.confidence) / 100:.2f}"  # 0.899 is not 0.9
            message = f"no confident match for {hit.query!r}; nearest: {moment} ({how})"
            message += "; --min-confidence 0 shows more"
            missed.append(Failure(None, NoMatch().kind, message))
        return hits, missed


@o.shares(Search, o.Focused, o.Batching, o.Cutting, Files, o.Show)
def command(
    *,
    search: Search,
    compute: o.Focused,
    batching: o.Batching,
    index: Index = None,
    preview: Annotated[bool, _preview] = False,
    save_clips: SaveClips = None,
    cutting: o.Cutting,
    files: Files,
    show: o.Show,
) -> None:
    """Find the moments that match a sentence, picture or example.

    The first search of a folder builds an index; later ones look only at what changed. The sentence may
    also come first, without --query.
    """
    with session("retrieve", show, compute, batching, kept="what is indexed is kept") as s:
        given, search = search, first_word(search)
        if given is not search and (given.query or given.like or given.image):
            sentence = (search.query or [""])[0]
            s.say(f"note: no file is called {sentence!r}, so it is looked for as a sentence")
        every = _each(search, files, save_clips, quiet=s.output.format == "quiet")
        request = search.request(every=every)
        if save_clips is not None and search.whole:
            raise UsageError("--save-clips saves moments; leave out --whole")
        files.check(s, moments=not search.whole)
        videos = files.beside(s.videos(search.paths, search.files_from, away=search.away))
        s.note_cut([*request.texts, *request.narrow, *request.unlike])
        with s.engine(index, search.cuts) as engine:
            result = engine.search(request, videos, s.roots(search.paths, away=search.away))
        s.output.several = len(result.queries) > 1
        hits, missed = search.sort_out(result, every=every, say=s.say)
        shown = list(saved(s, hits, save_clips, cutting, files, videos))
        s.output.add_all([*shown, *missed, *result.failures])
        files.write(s, "hits_page", videos)
        if preview:
            _show_preview(s)


def _each(search: Search, files: Files, clips: Path | None, *, quiet: bool) -> bool:
    """Say whether each hit must be sure by itself: where that is asked for, or something is done with it."""
    return search.min_confidence is not None or quiet or clips is not None or files.export is not None


def first_word(search: Search) -> Search:
    """Take a first argument that is no path as a sentence to look for."""
    from stopcli.video.discovery import as_spelled

    paths = search.paths or []
    if not paths or str(paths[0]) == "-" or os.path.lexists(as_spelled(paths[0])):
        return search
    among = search.query or search.like or search.image
    if among and (" " not in str(paths[0]) or os.sep in str(paths[0])):
        return search  # a file or folder that is not there
    if len(paths) == 1 and search.files_from is None and paths[0].suffix:
        return search  # a file that is not there, rather than a sentence to look for nowhere
    return replace(search, query=[str(paths[0]), *(search.query or ())], paths=paths[1:])


def example(text: str) -> Example:
    """Read ``FILE`` or ``FILE@TIME``; raises UsageError."""
    from stopcli.index.types import Example
    from stopcli.results import read_clock
    from stopcli.video.discovery import as_spelled

    name, at, time = text.rpartition("@")
    if not at or os.path.lexists(as_spelled(Path(text))):
        return Example(as_spelled(Path(text)))
    if not name or (seconds := read_clock(time)) is None:
        raise UsageError(f"--like must be FILE or FILE@TIME, such as clip.mp4@1:23.5, got {text!r}")
    return Example(as_spelled(Path(name)), seconds)


def saved(
    s: Session,
    hits: Sequence[Hit],
    folder: Path | None,
    cutting: o.Cutting,
    files: Files,
    videos: Sequence[Path],
) -> Iterator[Hit | Failure]:
    """Yield hits, and what became of the clips of them where a folder is given.

    Those that leave the tool, as clips or for other programs, begin and end to the frame.
    """
    from stopcli.tasks.clips import at_cuts, notes_on, save_hits

    if folder is not None or files.export is not None:
        moved = []
        with s.progress("looking for cuts", len(hits)) as done:
            for hit in hits:
                moved.append(at_cuts(hit))
                done(hit.path)
        hits = moved
    if folder is None:
        yield from hits
        return
    clips = []
    with s.progress("cutting", len(hits)) as done:
        how = {"exact": cutting.exact, "force": files.force}
        for item, clip in save_hits(hits, folder, pad=cutting.pad, videos=videos, **how):
            yield item
            if clip is not None:
                clips.append(clip)
            done(str(item.path))
    for note in notes_on(clips, exact=cutting.exact):
        s.say(note)


def _show_preview(s: Session) -> None:
    """Print filmstrips, where there is a terminal to print them on."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        s.say("note: --preview needs a terminal; --html FILE writes a page")
        return
    from stopcli.output.terminal import show

    show(console, s.output.records)
