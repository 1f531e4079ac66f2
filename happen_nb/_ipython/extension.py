"""The IPython extension: completion, and ``%happen``; ``%load_ext happen_nb`` loads it."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import runtime_of
from happen_nb._api.connect import registry
from happen_nb._ipython.completion import SeenTypes, offer
from happen_nb.errors import UnknownNodeError

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult

    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._api.views import View

_log = logging.getLogger("happen_nb")

MATCHER: Final = "happen_nb"  # its name in IPython's ``disable_matchers``
PRIORITY: Final = 1000.0  # above IPython's own matchers


class Extension:
    """The extension in one IPython shell."""

    def __init__(self, shell: Any) -> None:
        from IPython.core.completer import context_matcher

        self._shell = shell
        self._seen: dict[Space, SeenTypes] = {}

        def matcher(context: CompletionContext) -> SimpleMatcherResult:
            return self._complete(context)

        self._matcher = context_matcher(identifier=MATCHER, priority=PRIORITY)(matcher)

    def load(self) -> None:
        """Add completion and ``%happen`` to IPython."""
        self._shell.Completer.custom_matchers.append(self._matcher)
        self._shell.register_magic_function(self.show, "line", "happen")
        self._shell.events.register("post_run_cell", self._follow_spaces)
        self._follow_spaces()

    def unload(self) -> None:
        """Remove everything that `load` added."""
        self._shell.Completer.custom_matchers.remove(self._matcher)
        self._shell.magics_manager.magics["line"].pop("happen", None)
        self._shell.events.unregister("post_run_cell", self._follow_spaces)
        for seen in self._seen.values():
            seen.stop()
        self._seen.clear()

    # -- %happen -------------------------------------------------------------------------------------

    def show(self, line: str) -> Space | Node | View | None:
        """Show the current space, or one of its nodes.

        Examples
        --------
        ``%happen`` shows the space, ``%happen orders`` the node "orders", in whatever process it runs.
        """
        from IPython.core.error import UsageError

        space, name = registry.current, line.strip().strip("'\"")
        if space is None:
            sys.stdout.write("no space is connected; connect to one with happen_nb.connect()\n")
            return None
        if not name:
            return space
        try:
            return space.nodes[name] if name in space.nodes else space.views[name]
        except UnknownNodeError as error:
            raise UsageError(f"%happen: {error}") from None

    # -- completion ----------------------------------------------------------------------------------

    def _complete(self, context: CompletionContext) -> SimpleMatcherResult:
        # Where this library knows the completions, it suppresses those of IPython.
        from IPython.core.completer import SimpleCompletion

        lines = context.full_text.split("\n")[: context.cursor_line]
        code = "\n".join([*lines, context.text_until_cursor])
        try:
            found = offer(code, self._shell.user_ns, self._types)
        except Exception as error:  # completion must never print a traceback
            _log.debug("completion: %r", error)
            found = None
        if found is None or not found.kinds:
            return {"completions": [], "matched_fragment": ""}
        completions = [SimpleCompletion(text, type=kind) for text, kind in found.kinds.items()]
        result: SimpleMatcherResult = {"completions": completions, "matched_fragment": found.source}
        return {**result, "ordered": True, "suppress": True}

    def _types(self, space: Space) -> list[str]:
        self._follow_spaces()
        return self._seen[space].all() if space in self._seen else []

    def _follow_spaces(self, _: object = None) -> None:
        connected = [space for space in list(registry.spaces.values()) if runtime_of(space).is_open]
        for space in connected:
            if space not in self._seen:
                self._seen[space] = SeenTypes(runtime_of(space).log)
        for space in self._seen.keys() - set(connected):
            self._seen.pop(space, None)  # closed


_loaded: dict[Any, Extension] = {}


def load(shell: Any) -> None:
    """Load the extension into an IPython shell, unless it is loaded."""
    if shell not in _loaded:
        _loaded[shell] = Extension(shell)
        _loaded[shell].load()


def unload(shell: Any) -> None:
    """Unload the extension."""
    extension = _loaded.pop(shell, None)
    if extension is not None:
        extension.unload()
