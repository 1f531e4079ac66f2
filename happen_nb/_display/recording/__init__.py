"""The page of a recording: one HTML file with its style, script and data, which makes no requests."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from hashlib import sha256
from html import escape
from typing import Any, Final

from happen_nb._display import resource

_SCRIPTS: Final = ("model.js", "lanes.js", "details.js", "player.js")
_FOLDER: Final = "_display/recording/"
_DATA: Final = re.compile(r'<script type="text/plain" id="data">([A-Za-z0-9+/=]*)</script>')
_POLICY: Final = "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'"
MAX_UNPACKED_BYTES: Final = 500_000_000  # bytes of the data of a file; more would be no recording of ours


def _hash(text: str) -> str:
    """Return the source of a content security policy that allows exactly this text."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def render(data: dict[str, Any]) -> str:
    """Return the page of encoded data.

    The policy allows its own script and style by their hashes, and nothing else.
    """
    parts = [resource("_display/dom.js"), *(resource(_FOLDER + name) for name in _SCRIPTS)]
    script, style = "\n".join(['"use strict";', *parts]), resource(f"{_FOLDER}recording.css")
    text = json.dumps(data, separators=(",", ":"))  # in ASCII, so that lone surrogates are kept
    places = {
        "policy": _POLICY.format(_hash(script), _hash(style)),
        "title": escape(data["title"].encode("utf-8", "replace").decode()),
        "style": style,
        "script": script,
        "data": b64encode(zlib.compress(text.encode(), 9)).decode(),
    }
    return re.sub("@([a-z]+)@", lambda place: places[place[1]], resource(f"{_FOLDER}page.html"))


def read(page: str) -> Any:
    """Return the data in a page; raise ValueError if it is no page of a recording."""
    found = _DATA.search(page)
    if found is None:
        raise ValueError("it holds no recording")
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(b64decode(found[1], validate=True), MAX_UNPACKED_BYTES)
        if not unpacker.eof:
            raise ValueError("its data are cut off or too large")
        return json.loads(text)
    except (zlib.error, Base64Error, ValueError, RecursionError) as error:
        raise ValueError(f"its data are damaged ({error})") from error
