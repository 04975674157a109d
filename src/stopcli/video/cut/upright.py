"""Pictures for files that cannot say how they are shown: turned and mirrored here, their pixels square."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from stopcli.video.pixels import display_matrix, quarter_turn

TURNS = ("mp4", "mov", "3gp", "matroska", "webm")  # FFmpeg's formats that say how pictures are turned


def is_turned(frame: Any) -> bool:
    """Say whether a picture is shown otherwise than it is stored."""
    turn = quarter_turn(display_matrix(frame))
    return turn is not None and any(turn)


class Upright:
    """Pictures as they are shown, by FFmpeg's filters; ``aspect`` is that of a stored pixel."""

    def __init__(self, frame: Any, aspect: Fraction | None) -> None:
        across, down, left = quarter_turn(display_matrix(frame)) or (False, False, False)
        width, height = frame.width, frame.height
        wide = 2 * round(width * (aspect or 1) / 2) if aspect and aspect > 0 else width
        wide = wide if abs(wide - width) > 1 else width
        stretch = [("scale", f"{wide}:{height}"), ("setsar", "1")] if wide != width else []
        if wide % 2 or height % 2:  # most codecs halve the sides of their colors
            stretch.append(("crop", f"{wide - wide % 2}:{height - height % 2}:0:0"))
        turns = (("transpose", "cclock_flip", across), ("vflip", "", down), ("hflip", "", left))
        self._steps = [*stretch, *((name, how) for name, how, wanted in turns if wanted)]

    def frames(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Yield pictures turned, with the times that they had."""
        graph: Any = None
        kind: Any = None
        for frame in frames:
            if not self._steps:
                yield frame
                continue
            stored = (frame.width, frame.height, frame.format.name)
            if stored != kind:
                graph, kind = self._graph(frame), stored
            times = frame.pts, frame.time_base
            graph.vpush(frame)
            made = graph.vpull()
            made.pts, made.time_base = times
            yield made

    def _graph(self, frame: Any) -> Any:
        from av.filter import Graph

        graph = Graph()
        nodes = [
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
        ]
        nodes += [graph.add(name, how) for name, how in self._steps]
        graph.link_nodes(*nodes, graph.add("buffersink")).configure()
        return graph
