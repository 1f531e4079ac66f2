"""The code before the cursor, as far as completion needs it: scanned once, never evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

Chain: TypeAlias = tuple[str, ...]
"""A dotted expression: ``space.views["cart"].get`` is ``("space", ".views", "[cart", ".get")``."""

_MAX_CHAIN_CHARACTERS: Final = 300
_NAME: Final = r"[^\W\d]\w*"
_QUOTED: Final = r"'[^'\\\n]*'|\"[^\"\\\n]*\""
_STEP: Final = rf"\s*\.\s*{_NAME}|\[\s*(?:{_QUOTED})\s*\]|\(\s*\)"
_CHAIN: Final = re.compile(rf"(?<![\w.)\]}}]){_NAME}(?:{_STEP})*\s*\Z")
_LINK: Final = re.compile(rf"(?P<name>{_NAME})|\[\s*(?P<key>{_QUOTED})\s*\]|(?P<call>\(\s*\))")
_TOKEN: Final = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<prefix>(?<!\w)[A-Za-z]{1,2})?(?P<quote>'{3}|"{3}|'|")
      | [()\[\]{},]""",
    re.VERBOSE,
)
_ENDS: Final = {
    "'": re.compile(r"(?:\\.|[^\\\n])*?['\n]", re.DOTALL),
    '"': re.compile(r'(?:\\.|[^\\\n])*?["\n]', re.DOTALL),
    "'''": re.compile(r"(?:\\.|[^\\])*?'{3}", re.DOTALL),
    '"""': re.compile(r'(?:\\.|[^\\])*?"{3}', re.DOTALL),
}
"""Matches up to the end of a string, or of a line: a quote in a magic or a shell command starts no string."""
_ATTRIBUTE: Final = re.compile(r"\.[ \t]*(\w*)\Z")
_KEYWORD: Final = re.compile(rf"(?:\s|#[^\n]*\n)*(?:({_NAME})\s*=(?!=)\s*)?")
_PLAIN: Final = re.compile(r"""(?:[^\\]|\\[\\'"])*""")
_ESCAPED: Final = re.compile(r"\\(.)")


class Attribute(NamedTuple):
    """The cursor is in a name after a dot."""

    owner: Chain  # before the dot
    source: str  # the typed part of the name


class Call(NamedTuple):
    """A call that is not closed yet."""

    callee: Chain  # empty if it is not a plain chain
    arguments: tuple[str, ...]  # the sources of the arguments before the one with the cursor
    keyword: str  # of the argument with the cursor, if it has one

    def given(self, parameters: Sequence[str]) -> Mapping[str, str]:
        """Return a mapping of parameters to the sources of their arguments."""
        given = {}
        for parameter, argument in zip(parameters, self.arguments, strict=False):
            named = _KEYWORD.match(argument)
            assert named is not None
            given[named[1] or parameter] = argument[named.end() :].strip()
        return given

    def parameter(self, parameters: Sequence[str]) -> str | None:
        """Return the parameter that the cursor is in."""
        rest = parameters[len(self.arguments) :]
        return self.keyword or (rest[0] if rest else None)


class Text(NamedTuple):
    """The cursor is in an incomplete string that is a whole argument or a key."""

    source: str  # the typed part, after the quote
    text: str  # the same without escapes
    quote: str
    raw: bool
    key_of: Chain  # empty if the string is an argument
    calls: tuple[Call, ...]  # around the cursor, the innermost first

    def escape(self, text: str) -> str | None:
        """Return the source of a text inside this string; None if it has none."""
        if not text.isprintable():
            return None
        if self.raw:
            return None if self.quote in text or "\\" in text[-1:] else text
        return text.replace("\\", "\\\\").replace(self.quote[0], f"\\{self.quote[0]}")


@dataclass(slots=True)
class _Bracket:
    sign: str
    position: int
    starts: list[int]  # of its parts


def at_cursor(code: str) -> Attribute | Text | None:
    """Return the place that `code` ends in, if something of this library could be completed there.

    Examples
    --------
    >>> at_cursor("lambda state, views: views.cu")
    Attribute(owner=('views',), source='cu')
    >>> place = at_cursor('orders.send("stock", "order.')
    >>> place.text, place.calls[0].callee, place.calls[0].arguments
    ('order.', ('orders', '.send'), ('"stock"',))
    >>> at_cursor("# views.cu")
    """
    brackets: list[_Bracket] = []
    position = 0
    while token := _TOKEN.search(code, position):
        position = token.end()
        sign = token[0]
        if token["comment"]:
            if position == len(code):
                return None
        elif quote := token["quote"]:
            end = _ENDS[quote].match(code, position)
            if end is None:
                return _text(code, token, brackets)
            position = end.end()
        elif sign in "([{":
            brackets.append(_Bracket(sign, token.start(), [position]))
        elif sign == "," and brackets:
            brackets[-1].starts.append(position)
        elif sign in ")]}" and brackets:
            brackets.pop()
    attribute = _ATTRIBUTE.search(code)
    if attribute is None:
        return None
    owner = chain(code[: attribute.start()])
    return Attribute(owner, attribute[1]) if owner else None


def chain(code: str) -> Chain:
    """Return the chain at the end of `code`; empty if it would have to be evaluated.

    Examples
    --------
    >>> chain('x = space.views["cart"].get')
    ('space', '.views', '[cart', '.get')
    >>> chain("make(3).get")
    ()
    """
    found = _CHAIN.search(code, max(0, len(code) - _MAX_CHAIN_CHARACTERS))
    if found is None:
        return ()
    head, *links = _LINK.finditer(found[0])
    return (head[0], *map(_link, links))


def whole_chain(source: str) -> Chain:
    """Return the chain that a source consists of; empty if there is more to it."""
    found = _CHAIN.match(source)
    return chain(source) if found else ()


def quoted(source: str) -> str | None:
    """Return the text of a plain string literal; None for other sources."""
    return source[1:-1] if re.fullmatch(_QUOTED, source) else None


def _link(link: re.Match[str]) -> str:
    if link["name"]:
        return f".{link['name']}"
    return f"[{link['key'][1:-1]}" if link["key"] else "()"


def _text(code: str, opening: re.Match[str], brackets: list[_Bracket]) -> Text | None:
    prefix, source = (opening["prefix"] or "").lower(), code[opening.end() :]
    if prefix not in ("", "r", "u") or not brackets:
        return None
    raw = prefix == "r"
    if not raw and not _PLAIN.fullmatch(source):
        return None
    inner = brackets[-1]
    before = _KEYWORD.fullmatch(code, inner.starts[-1], opening.start())
    if before is None:
        return None
    key_of = chain(code[: inner.position]) if inner.sign == "[" and not before[1] else ()
    if inner.sign != "(" and not key_of:
        return None
    calls = tuple(_call(code, each, before[1] or "") for each in reversed(brackets) if each.sign == "(")
    meant = source if raw else _ESCAPED.sub(r"\1", source)
    return Text(source, meant, opening["quote"], raw, key_of, calls)


def _call(code: str, bracket: _Bracket, keyword: str) -> Call:
    arguments = tuple(code[start : end - 1] for start, end in pairwise(bracket.starts))
    return Call(chain(code[: bracket.position]), arguments, keyword)
