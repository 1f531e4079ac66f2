"""Parts of SVG that diagrams share: elements, colours for light and dark pages, and the size of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

from happen_nb._display.spans import clean, columns, cut, cut_middle
from happen_nb._model.causality import NOTEBOOK

COLOURS: Final = (
    ("#0853ba", "#6eb0fd"),
    ("#b55c03", "#e99951"),
    ("#005954", "#82d6af"),
    ("#bb2e6f", "#f09dcc"),
    ("#4c4b86", "#a08fcb"),
    ("#594d00", "#e1cc4b"),
    ("#078197", "#6fdefd"),
    ("#7e553f", "#c29c81"),
)
"""Of nodes, on light and on dark paper: each two differ also for colour-blind readers."""
SHRUNK: Final = 440
"""Pixels below which a picture does not shrink with its page: its texts would become too small."""
PERSON: Final = ("#59606a", "#a4abb5")
"""The colour of the person at the notebook."""
NARROW: Final = 510
"""Pixels of a picture in a notebook that is 700 pixels wide."""
WIDE: Final = 760
"""Pixels of a picture where a page has at least so many."""
MAX_DRAWN: Final = 40_000
"""Characters of a picture that also has one for wide pages."""
STYLE: Final = "".join(
    [
        ".hn-diagram{color-scheme:light dark;font:12px system-ui,'DejaVu Sans',sans-serif;",
        "fill:var(--hn-text,light-dark(#1f2328,#e4e6ea));",
        "--paper:var(--hn-back,light-dark(#fff,#16181b));--rule:light-dark(#dfe2e6,#34393f);",
        "--accent:light-dark(#8f4100,#ffbd85);--soft:light-dark(#59606a,#a4abb5);--bad:light-dark(#b3261e,#ff938a);",
        *(f"--c{n}:light-dark({light},{dark});" for n, (light, dark) in enumerate((*COLOURS, PERSON))),
        "}",
        ".happen .hn-diagram{color-scheme:inherit;display:block;max-width:100%;height:auto}",
        ".hn-diagram .b{font-weight:600}.hn-diagram .q{fill:var(--soft)}",
        ".hn-diagram .m{font-family:ui-monospace,'DejaVu Sans Mono',monospace}",
        ".hn-diagram .e{fill:var(--bad)}.hn-diagram .t{fill:var(--soft);text-anchor:end}",
        ".hn-diagram .l{stroke:var(--rule)}.hn-diagram .w{fill:var(--paper)}",
        ".hn-diagram path,.hn-diagram line{fill:none}",
    ]
)


class Drawing(NamedTuple):
    """A picture: SVG, in which all texts are escaped, and the same as lines of text.

    A ``titled`` one has its own heading, so that HTML leaves out that of the page. Where a page has room,
    HTML shows the ``wide`` one.
    """

    svg: str
    lines: tuple[str, ...] = ()
    titled: bool = False
    wide: str = ""


def drawing(
    draw: Callable[[int], str] | None,
    lines: Iterable[str] = (),
    *,
    width: int | None = None,
    titled: bool = False,
) -> Drawing:
    """Draw a picture for narrow and for wide pages, or only for the width that was chosen, in pixels.

    Without `draw`, there are only the lines of text.
    """
    if draw is None:
        return Drawing("", tuple(lines), titled)
    svg = draw(width or NARROW)
    wide = draw(WIDE) if width is None and len(svg) <= MAX_DRAWN else ""
    return Drawing(svg, tuple(lines), titled, wide if len(wide) <= MAX_DRAWN else "")


def colours_of(nodes: Iterable[str]) -> dict[str, str]:
    """Return the colours of nodes, in turn; the person at the notebook has one of their own."""
    others = dict.fromkeys(node for node in nodes if node != NOTEBOOK)
    colours = {node: f"var(--c{number % len(COLOURS)})" for number, node in enumerate(others)}
    return {**colours, NOTEBOOK: f"var(--c{len(COLOURS)})"}


def svg(about: str, width: float, height: float, marks: str, *, role: str = "img") -> str:
    """Return a picture with its style; `about` names it to screen readers.

    Its role is "group" if parts of it can be pressed.
    """
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    size += f' style="min-width:{min(width, SHRUNK):.0f}px"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="hn-diagram" role="{role}" '
        f'aria-label="{escaped(about)}" {size}><style>{STYLE}</style>{marks}</svg>'
    )


def line(x0: float, y0: float, x1: float, y1: float, look: str) -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" {look}/>'


def rect(x: float, y: float, width: float, height: float, look: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {look}/>'


def dot(x: float, y: float, look: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" {look}/>'


def tspan(text: str, gap: int, kind: str) -> str:
    place = f' dx="{gap}"' if gap else ""
    look = f' class="{kind}"' if kind else ""
    return f"<tspan{look}{place}>{escaped(text)}</tspan>" if text else ""


def escaped(text: str) -> str:
    return escape(clean(text))


_NARROW: Final = frozenset("ijlt.,:;|!'()[]{} \"`f-/")
_WIDE: Final = frozenset("mwMW@%…→")


def measure(text: str, *, bold: bool = False, mono: bool = False) -> float:
    """Estimate the pixels of a text at 12 px; fonts differ, so rather too many."""
    if mono:
        return 7.25 * columns(text)
    total = 0.0
    for letter in text:
        if letter in _NARROW:
            total += 4.5
        elif letter in _WIDE:
            total += 11.0
        elif letter.isascii():
            total += 8.4 if letter.isupper() else 7.5
        else:
            total += 7.5 * columns(letter)
    return total * 1.07 if bold else total


def fit(text: str, room: float, *, bold: bool = False, mono: bool = False, end: int = 0) -> str:
    """Cut a text so that it takes at most some pixels, but keep so many characters at its end."""
    if measure(text, bold=bold, mono=mono) <= room:
        return text
    text, kept = text[: len(text) - end], text[len(text) - end :]
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(cut(text, middle) + kept, bold=bold, mono=mono) <= room:
            low = middle
        else:
            high = middle - 1
    return cut(text, low) + kept


def heading(kind: str, name: str, facts: Sequence[str], width: float, edge: float) -> str:
    """Return the first line of a picture, as a page has it: ``Graph of orders · 3 nodes``."""
    name = fit(cut_middle(name, 40), width - 2 * edge - measure(kind) - 4, bold=True)
    room = max(20.0, width - 2 * edge - measure(kind) - 4 - measure(name, bold=True))
    rest = fit(" · ".join(["", *facts]), room)
    return (
        f'<text x="{edge:.0f}" y="16">{tspan(kind, 0, "")}{tspan(name, 4, "b")}{tspan(rest, 4, "q")}</text>'
    )
