"""The steps of an order, drawn as small lanes: a row for each node, with marks in the order of the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from happen_nb._display.plots.svg_parts import COLOURS, escaped, fit, line, measure, rect, svg, tspan
from happen_nb._display.spans import name, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from happen_nb._model.orders import OrderStep

_ROW: Final = 22
_NAME_PIXELS: Final = 140
_VERB_PIXELS: Final = 160
_VERB_CHARACTERS: Final = 60
_GAP: Final = 26  # from the end of a label to the next one, with the mark between
_LONGEST: Final = 760.0  # of all labels in a row; in a longer one, only the marks are drawn
_MARK_GAP: Final = 16.0  # between marks without labels


def verb(step: OrderStep) -> str:
    """Describe what a node does in a step of an order."""
    if step.what != "emit":
        return f"{step.what}s"
    return f"emits {step.target}" if step.receiver is None else f"sends {step.target} to {step.receiver}"


def draw(steps: Sequence[OrderStep], about: str, left_out: int = 0) -> str:
    """Draw steps as SVG, for light and dark pages; `left_out` is the number of those before them.

    A ring stands for a begin, a square for a commit, and a dot for an event. The last mark, after which the
    rule is broken, has the colour of errors.
    """
    nodes = list(dict.fromkeys(step.node for step in steps))
    heads = [fit(name(node), _NAME_PIXELS, bold=True) for node in nodes]
    left = 12 + max(measure(head, bold=True) for head in heads)
    verbs = [fit(one_line(verb(step), _VERB_CHARACTERS), _VERB_PIXELS) for step in steps]
    widths = [measure(each) + _GAP for each in verbs]
    if left + sum(widths) > _LONGEST:
        verbs, widths = [""] * len(steps), [_MARK_GAP] * len(steps)
    width, height = left + sum(widths), _ROW * (len(nodes) + bool(left_out)) + 4
    marks = [_lane(head, row, left, width) for row, head in enumerate(heads)]
    if left_out:
        marks.append(f'<text class="q" x="2" y="{height - 6}">{escaped(f"after {left_out:,} more")}</text>')
    x = left + 6
    for index, (step, label, room) in enumerate(zip(steps, verbs, widths, strict=True)):
        row = nodes.index(step.node)
        last = index == len(steps) - 1
        marks.append(f"<g><title>{escaped(f'{index + 1}. {step.node} {verb(step)}')}</title>")
        marks.append(_mark(step, x, _middle(row), "var(--bad)" if last else f"var(--c{row % len(COLOURS)})"))
        if label:
            paper = rect(x + 6, _middle(row) - 7, measure(label) + 4, 14, 'class="w"')
            text = tspan(label, 0, "e" if last else "q")
            marks.append(f'{paper}<text x="{x + 8:.1f}" y="{_middle(row) + 4:.1f}">{text}</text>')
        marks.append("</g>")
        x += room
    return svg(about, width, height, "".join(marks))


def _middle(row: int) -> float:
    return _ROW * (row + 0.5) + 2


def _lane(head: str, row: int, left: float, width: float) -> str:
    y = _middle(row)
    return f'<text x="2" y="{y + 4:.1f}">{tspan(head, 0, "b")}</text>' + line(
        left - 4, y, width, y, 'class="l"'
    )


def _mark(step: OrderStep, x: float, y: float, colour: str) -> str:
    if step.what == "commit":
        return rect(x - 4, y - 4, 8, 8, f'fill="{colour}"')
    paper = "var(--paper)" if step.what == "begin" else colour
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{paper}" stroke="{colour}" stroke-width="1.5"/>'
