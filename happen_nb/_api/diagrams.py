"""Diagrams of what happened: the sequence of messages, and the waterfall of a trace."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from happen_nb._api.base import Displayable, write_file
from happen_nb._model import arguments

if TYPE_CHECKING:
    from happen_nb._display.page import Page
    from happen_nb._display.plots import Drawing
    from happen_nb._display.values import Budget
    from happen_nb._model.causality import JournalSlice, TraceNode


class SvgFile:
    """Base of pictures that can be saved as an SVG file."""

    _width: int | None = None
    """Pixels, if they were chosen."""
    _default_width: ClassVar = 660

    @property
    def svg(self) -> str:
        """The picture, for light and dark pages."""
        return self._svg(self._width or self._default_width)

    def _svg(self, width: int) -> str:
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture as an SVG file.

        Parameters
        ----------
        path : str or path
            Where to write it; an existing file is replaced. A path without a suffix gets ``.svg``.

        Returns
        -------
        Path

        Examples
        --------
        >>> from tempfile import mkdtemp
        >>> event = orders.broadcast("order.paid")
        >>> space.sequence(event).save(mkdtemp() + "/paid.svg").name
        'paid.svg'
        """
        return write_file(path, self.svg, ".svg")


class Picture(SvgFile, Displayable):
    """A picture as SVG, which the last expression of a cell shows, for light and dark pages.

    Unless its width is chosen, a wide page shows a wider picture than a narrow one.
    """

    def _drawing(self, budget: Budget, lines: Iterable[str]) -> Drawing:
        """Return the picture as a part of a page, with the same as lines of text."""
        from happen_nb._display.plots import drawing

        return drawing(self._svg if budget.folds else None, lines, width=self._width)


class SequenceDiagram(Picture):
    """A lane per node, with arrows for messages and replies, and the changes of commits between them.

    The last expression of a cell shows it as SVG, for light and dark pages.

    Attributes
    ----------
    title : str
        What it shows.

    Examples
    --------
    >>> counting = inventory.on("order.*", lambda event: inventory.state.set({"sold": 1}))
    >>> print(orders.broadcast("order.paid").settle().sequence())
    Sequence of order.paid · 1 message · 1 commit
    orders → inventory  order.paid
    inventory           + sold  1
    """

    def __init__(
        self, title: str, roots: Sequence[TraceNode], *, times: bool, merge: bool, width: int | None
    ) -> None:
        from happen_nb._display.plots import sequence

        self.title = title
        self.diagram = sequence.diagram(title, roots, merge=arguments.truth(merge, "sequence: merge"))
        self._width = None if width is None else arguments.count(width, "sequence: width", least=200)
        self._times = arguments.truth(times, "sequence: times")

    def _page(self, budget: Budget) -> Page:
        from happen_nb._display.plots import sequence

        return sequence.sequence_page(self.diagram, self._drawing(budget, sequence.lines(self.diagram)))

    def _svg(self, width: int) -> str:
        from happen_nb._display.plots import sequence

        return sequence.draw(self.diagram, width=width, times=self._times)

    @property
    def mermaid(self) -> str:
        """The diagram as Mermaid text, which GitHub and JupyterLab draw in Markdown."""
        from happen_nb._display.plots import sequence

        return sequence.mermaid(self.diagram)


class TimelineDiagram(Picture):
    """The events and commits of each node over time, as a static image.

    The last expression of a cell shows it as SVG, for light and dark pages.
    """

    def __init__(self, journal: JournalSlice, lanes: Sequence[str]) -> None:
        from happen_nb._display.plots.timeline import Timeline

        self.timeline = Timeline(journal, nodes=lanes)

    def _page(self, budget: Budget) -> Page:
        from happen_nb._display.plots.timeline import timeline_page

        return timeline_page(self.timeline, self._svg if budget.folds else None)

    def _svg(self, width: int) -> str:
        from happen_nb._display.plots.timeline_drawing import draw_timeline

        return draw_timeline(self.timeline, width=width, chosen=self.timeline.story()).svg


class WaterfallDiagram(Picture):
    """The handlings and commits of a trace on one time axis, with start and duration.

    The last expression of a cell shows it as SVG; as text, the bars are aligned too.

    Attributes
    ----------
    title : str
        The type of the event.

    Examples
    --------
    >>> counting = inventory.on("order.*", lambda event: inventory.state.set({"sold": 1}))
    >>> print(orders.broadcast("order.paid").settle().waterfall())
    Waterfall of order.paid · ...
      order.paid → inventory · <lambda> ...
        inventory revision 1 ...
    """

    def __init__(self, title: str, root: TraceNode, *, width: int | None) -> None:
        from happen_nb._display.plots import waterfall

        self.title = title
        self.diagram = waterfall.waterfall(title, root)
        self._width = None if width is None else arguments.count(width, "waterfall: width", least=400)

    def _page(self, budget: Budget) -> Page:
        from happen_nb._display.plots import waterfall

        return waterfall.waterfall_page(self.diagram, self._drawing(budget, waterfall.lines(self.diagram)))

    def _svg(self, width: int) -> str:
        from happen_nb._display.plots import waterfall

        return waterfall.draw(self.diagram, width=width)
