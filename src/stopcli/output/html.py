"""Pages that need nothing but a browser: hits with pictures, a timeline, an explanation.

One file each, no script from elsewhere; videos play from where they lie, at their moment (media
fragments). Every text is escaped.
"""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from stopcli.errors import FileExists, InputError
from stopcli.results import span
from stopcli.video.clips import read_pictures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stopcli.results import Classification, Hit

SIDE = 200  # pixels; the short side of a thumbnail
HUES = (220, 25, 140, 275, 190, 345, 85, 50)

STYLE = """
:root { color-scheme: light dark; --line: #d1d5db; --soft: #6b7280; --back: #ffffff; --card: #f3f4f6; --mark: #2563eb; }
@media (prefers-color-scheme: dark) {
  :root { --line: #374151; --soft: #9ca3af; --back: #0b0f17; --card: #161c28; --mark: #60a5fa; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 1.2rem; font: 15px/1.45 system-ui, sans-serif; background: var(--back); }
h1 { font-size: 1.3rem; margin: 0 0 .2rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .6rem; overflow-wrap: anywhere; }
p, footer { color: var(--soft); margin: .2rem 0; } footer { margin-top: 2rem; font-size: .85rem; }
ol { list-style: none; padding: 0; margin: 0; display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(260px, 100%), 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
li:focus-within, li:focus { outline: 3px solid var(--mark); outline-offset: 1px; }
video { display: block; width: 100%; aspect-ratio: 16 / 9; object-fit: contain; background: #000; }
.told { padding: .5rem .7rem .6rem; } .told b { font-variant-numeric: tabular-nums; }
.path { overflow-wrap: anywhere; font-size: .86rem; color: var(--soft); }
.line { display: flex; height: 34px; border-radius: 6px; overflow: hidden; border: 1px solid var(--line); margin: .4rem 0; }
.line a { display: block; min-width: 2px; height: 100%; } .line a:focus { outline: 3px solid var(--mark); outline-offset: -3px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } td, th { text-align: left; padding: .25rem .5rem .25rem 0; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; } img { max-width: 100%; background: #fff; } .wide img { max-width: none; }
kbd { border: 1px solid var(--line); border-radius: 4px; padding: 0 .3em; font-size: .85em; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; vertical-align: -.05em; }
"""

# arrows and j/k walk through the cards, Enter or Space plays
SCRIPT = """
const cards = [...document.querySelectorAll('li')];
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = {ArrowRight: 1, ArrowDown: 1, j: 1, ArrowLeft: -1, ArrowUp: -1, k: -1}[event.key];
  const here = cards.findIndex(c => c.contains(document.activeElement));
  if (step) {
    if (document.activeElement.tagName === 'VIDEO') return;
    const next = cards[Math.min(cards.length - 1, Math.max(0, here + step))];
    if (next) { next.focus(); next.scrollIntoView({block: 'nearest'}); event.preventDefault(); }
  } else if ((event.key === 'Enter' || event.key === ' ') && document.activeElement === cards[here]) {
    const video = cards[here].querySelector('video');
    if (video) { video.paused ? video.play() : video.pause(); event.preventDefault(); }
  }
});
document.querySelectorAll('a[data-at]').forEach(a => a.addEventListener('click', event => {
  const video = document.getElementById(a.dataset.video);
  if (video) { video.currentTime = +a.dataset.at; video.play(); event.preventDefault(); }
}));
"""


@dataclass(frozen=True)
class Page:
    """A page: its title and what stands in it, already escaped."""

    title: str
    body: str

    def text(self) -> str:
        """Return the whole document."""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{self.body}\n"
            f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
        )


def check_output(path: Path, *, force: bool) -> None:
    """Make sure that a file may be written.

    Raises:
        FileExists: it is there, and ``force`` is not set.
    """
    if path.exists() and not force:
        raise FileExists(f"{path}: is there already; use --force to replace it")


def write(path: Path, page: Page) -> None:
    """Write a page, all or nothing."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(page.text(), encoding="utf-8", errors="surrogateescape")
    os.replace(part, path)


def hits_page(hits: Sequence[Hit], made: str) -> Page:
    """Show the hits of each query with a picture of their moment.

    Args:
        hits: query by query, best first.
        made: one sentence on how they were found.
    """
    queries = list(dict.fromkeys(h.query for h in hits))
    parts = [f"<h1>{escape(' · '.join(queries))}</h1>", _keys()]
    for query in queries:
        mine = [h for h in hits if h.query == query]
        if len(queries) > 1:
            parts.append(f"<h2>{escape(query)}</h2>")
        parts.append("<ol>" + "\n".join(_card(h) for h in mine) + "</ol>")
    parts.append(f"<footer>{escape(made)}</footer>")
    return Page(f"{queries[0] if queries else 'nothing'} - stop retrieve", "\n".join(parts))


def _keys() -> str:
    return "<p><kbd>←</kbd> <kbd>→</kbd> walk, <kbd>Enter</kbd> plays the moment.</p>"


def _card(hit: Hit) -> str:
    name = escape(Path(hit.path).name)
    told = f"<b>{hit.rank}.</b> {escape(span(hit.start, hit.end))} <b>{hit.score:.3f}</b>"
    poster = thumbnail(hit.path, 0.0 if hit.start is None or hit.end is None else (hit.start + hit.end) / 2)
    return (
        f'<li tabindex="0" aria-label="{name}">{_video(hit.path, hit.start, hit.end, poster)}'
        f'<div class="told">{told}<div class="path">{escape(_clean(hit.path))}</div></div></li>'
    )


def _video(path: str, start: float | None, end: float | None, poster: str | None, identity: str = "") -> str:
    fragment = f"#t={start:g},{end:g}" if start is not None and end is not None else ""
    shown = f' poster="{poster}"' if poster else ""
    named = f' id="{identity}"' if identity else ""
    return f'<video{named} src="{escape(address(path) + fragment)}"{shown} controls muted preload="none" tabindex="-1"></video>'


def address(path: str) -> str:
    """Return a file's address; any bytes that a name may hold survive."""
    return "file://" + quote(os.fsencode(os.path.abspath(path)))  # noqa: PTH100 - resolve() would follow links


def _clean(path: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in path)


def thumbnail(path: str, at: float) -> str | None:
    """Return a picture of a moment as a data address; None where the video cannot be read."""
    try:
        (pixels,) = read_pictures(path, [at], SIDE)
    except InputError:
        return None
    return jpeg(pixels)


def jpeg(pixels: NDArray) -> str:  # type: ignore[type-arg]
    """Return a picture (H,W,3) as a data address."""
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode()


def timeline_page(results: Sequence[Classification], made: str) -> Page:
    """Show what each window of each video was called, as one line a video."""
    labels = list(dict.fromkeys(r.scores[0].label for r in results))
    hue = {label: HUES[i % len(HUES)] + 13 * (i // len(HUES)) for i, label in enumerate(labels)}
    legend = " &nbsp; ".join(
        f'<span><span class="key" style="background:{_colour(hue[label], 1.0)}"></span>{escape(label)}</span>'
        for label in labels
    )
    parts = [
        "<h1>Timeline</h1>",
        f"<p>{legend}</p>",
        "<p><kbd>Tab</kbd> walks through the windows, <kbd>Enter</kbd> plays one.</p>",
    ]
    for i, path in enumerate(dict.fromkeys(r.path for r in results)):
        mine = [r for r in results if r.path == path]
        end = max(r.end or 0.0 for r in mine) or 1.0
        poster = thumbnail(path, end / 2)
        parts.append(f"<h2>{escape(_clean(path))}</h2>")
        parts.append(f'<div style="max-width:480px">{_video(path, None, None, poster, f"video{i}")}</div>')
        parts.append(f'<div class="line">{"".join(_window(r, f"video{i}", end, hue) for r in mine)}</div>')
        parts.append(_windows_table(mine))
    parts.append(f"<footer>{escape(made)}</footer>")
    return Page("Timeline - stop classify", "\n".join(parts))


def _colour(hue: int, share: float) -> str:
    return f"hsl({hue % 360} 70% 50% / {0.25 + 0.75 * share:.2f})"


def _window(result: Classification, video: str, total: float, hue: dict[str, int]) -> str:
    best = result.scores[0]
    start, end = result.start or 0.0, result.end if result.end is not None else total
    title = escape(f"{span(start, end)} {best.label} {best.score:.0%}")
    return (
        f'<a href="{escape(address(result.path))}#t={start:g},{end:g}" data-video="{video}" data-at="{start:g}" title="{title}" '
        f'aria-label="{title}" style="width:{100 * (end - start) / total:.3f}%;background:{_colour(hue[best.label], best.score)}"></a>'
    )


def _windows_table(results: Sequence[Classification]) -> str:
    rows = "".join(
        f"<tr><td>{span(r.start, r.end)}</td><td>{escape(r.scores[0].label)}</td><td>{r.scores[0].score:.1%}</td></tr>"
        for r in results
    )
    return f"<details><summary>{len(results)} windows</summary><table><tr><th>time</th><th>label</th><th>score</th></tr>{rows}</table></details>"


def picture_page(title: str, png: bytes, words: Sequence[str], made: str) -> Page:
    """Show one large picture and sentences on how to read it."""
    data = base64.b64encode(png).decode()
    told = "".join(f"<p>{escape(w)}</p>" for w in words)
    body = (
        f'<h1>{escape(title)}</h1>{told}<div class="wide"><img alt="{escape(words[0] if words else title)}" '
        f'src="data:image/png;base64,{data}"></div><footer>{escape(made)}</footer>'
    )
    return Page(title, body)
