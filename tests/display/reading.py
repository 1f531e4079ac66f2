"""Reads a display's HTML as a browser would: what is visible, and what it is made of."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

ATTRIBUTES = {
    "class",
    "style",
    "open",
    "scope",
    "colspan",
    "datetime",
    "tabindex",
    "value",
    "max",
    "title",
} | {"data-lm-suppress-shortcuts"}
TAGS = {
    "div",
    "style",
    "span",
    "b",
    "i",
    "ins",
    "del",
    "ul",
    "li",
    "details",
    "summary",
    "pre",
    "time",
    "wbr",
    "progress",
} | {
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
}


class Reader(HTMLParser):
    """Checks the markup while it collects the visible text; ``hidden`` is in folds that are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[tuple[str, dict[str, Any]]] = []
        self.visible: list[str] = []
        self.hidden: list[str] = []
        self.times: list[str] = []
        self.summaries = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        assert {key for key, _ in attrs} <= ATTRIBUTES, attrs
        self.summaries += tag == "summary"
        if tag == "wbr":
            return
        self.stack.append((tag, dict(attrs)))
        if tag == "time":
            self.times.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop()[0] == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.stack]
        if "style" in tags:
            return
        if "time" in tags:
            self.times[-1] += data
        elif self._folded():
            self.hidden.append(data)
        else:
            self.visible.append(data)

    def _folded(self) -> bool:
        """Below a closed fold and not in its summary, or what the style hides in the summary."""
        closed = [
            index for index, (tag, attrs) in enumerate(self.stack) if tag == "details" and "open" not in attrs
        ]
        if not closed:
            return False
        below = [tag for tag, _ in self.stack[closed[0] + 1 :]]
        return below[:1] != ["summary"] or any(attrs.get("class") == "c" for _, attrs in self.stack)


def text(shown: Any) -> str:
    """The text in the mime bundle of an object."""
    return shown._repr_mimebundle_()["text/plain"]


def html(shown: Any) -> str:
    """The HTML in the mime bundle of an object."""
    return shown._repr_mimebundle_()["text/html"]


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.stack
    return reader


def squeezed(text: str) -> str:
    """Without white space and without what only surrounds times."""
    return (
        "".join(text.split())
        .replace("time(UTC)", "")
        .replace("lastchange(UTC)", "")
        .replace("occurred", "")
        .replace("·", "")
    )
