"""Read-only views of the states of all nodes, in every process."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from happen_nb._api.base import Displayable
from happen_nb._display.reprs_state import view_page, views_page
from happen_nb._model.paths import MISSING, Selector, select
from happen_nb._model.quoting import quote
from happen_nb._model.records import EMPTY, CommitRecord, Cut
from happen_nb.errors import UnknownNodeError

if TYPE_CHECKING:
    from happen_nb._api.space import Space
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._widgets.live import Live


class View(Displayable):
    """A read-only view of one node's state.

    Examples
    --------
    >>> commit = orders.state.set({"o1": {"status": "open"}})
    >>> space.views.orders.get("o1.status")
    'open'
    """

    _page = view_page
    _pickle = "pickle view.get()"

    def __init__(self, name: str, views: Views) -> None:
        self.name = name
        self._views = views

    def get(self, selector: Selector | None = None) -> Any:
        """Return the frozen state, or the selected part of it.

        Parameters
        ----------
        selector : callable or path, optional
            A function of the state, or a path like ``"orders.o1.status"``; a missing path gives None.
        """
        return select(self._views._state(self.name), selector)

    @property
    def revision(self) -> int:
        """The number of the node's commits so far."""
        record = self._views._record(self.name)
        return record.revision if record else 0

    def live(
        self, selector: Selector | None = None, *, render: Callable[[Any], object] | None = None
    ) -> Live:
        """Show the state in a widget that follows every commit, like ``state.live``."""
        from happen_nb._widgets.live import live_of_view

        return live_of_view(self, selector, render)


class Views(Displayable, Mapping[str, View]):
    """A mapping of node names to `View`, for every node of the space in every process.

    ``space.views`` always shows the newest states; the views of a transform are one snapshot. Nodes are also
    attributes, where ``_`` matches ``-`` too: ``views.customer_service``. A node with the name of a mapping
    method, such as ``items``, is available as ``views["items"]`` only.
    """

    _page = views_page
    _pickle = "pickle views.collect(...)"

    def __init__(self, space: Space, cut: Cut | None = None) -> None:
        self._space = space
        self._cut = cut
        self._viewed: set[str] = set()

    @property
    def space(self) -> Space:
        """The space of the nodes."""
        return self._space

    def collect(self, selectors: Mapping[str, Selector], *, default: Any = MISSING) -> dict[str, Any]:
        """Read several nodes from one consistent snapshot.

        Parameters
        ----------
        selectors : mapping of str to callable or path
            Node name -> function of that node's frozen state, or a path.
        default : optional
            Value for a node that does not exist; without it, a missing node is an error.

        Returns
        -------
        dict
            Node name -> the value that its selector returned.

        Raises
        ------
        UnknownNodeError
            A node does not exist and there is no default.

        Examples
        --------
        >>> commit = inventory.state.set({"stock": 7})
        >>> orders.space.views.collect({"inventory": lambda s: s["stock"]})
        {'inventory': 7}
        """
        if not isinstance(selectors, Mapping):
            raise TypeError(
                f"collect: selectors is {quote(selectors)}; give a mapping of names to functions or paths"
            )
        views = self if self._cut is not None else Views(self._space, self._space._log.replica.cut())
        assert views._cut is not None
        collected = {}
        for asked, selector in selectors.items():
            record = views._cut.nodes.get(asked)
            if record is not None and not record.deleted:
                views._viewed.add(asked)
                collected[asked] = select(record.state, selector)
                continue
            name = views._find(asked)
            views._viewed.add(asked if name is None else name)
            if name is None and default is MISSING:
                raise views._unknown(asked)
            collected[asked] = default if name is None else select(views._state(name), selector)
        return collected

    def _record(self, name: str) -> CommitRecord | None:
        self._viewed.add(name)
        if self._cut is None:
            return self._space._log.replica.newest(name)
        return self._cut.nodes.get(name)

    def _state(self, name: str) -> FrozenDict:
        record = self._record(name)
        if record is not None and not record.deleted:
            return record.state
        if self._exists(name):
            return EMPTY
        raise self._unknown(name)

    def _exists(self, name: str) -> bool:
        record = self._record(name)
        if (record is not None and not record.deleted) or self._space._is_local(name, record):
            return True
        return self._space._open_runtime.ownership.owner_of(name) is not None

    def _find(self, name: str) -> str | None:
        if self._exists(name):
            return name
        if "_" in name:
            alike = [other for other in self._names() if other.replace("-", "_") == name]
            return alike[0] if len(alike) == 1 else None
        return None

    def _names(self) -> list[str]:
        log = self._space._log
        records = log.replica.cut().nodes if self._cut is None else self._cut.nodes
        names = {name for name, record in records.items() if not record.deleted}
        names |= {name for name in self._space._local if self._space._is_local(name, records.get(name))}
        return sorted({*names, *self._space._runtime.ownership.names()})

    def _unknown(self, name: str) -> UnknownNodeError:
        return unknown_node(name, self._names(), f'the space "{self._space.name}"')

    def __getitem__(self, name: str) -> View:
        if not isinstance(name, str):
            raise TypeError(f"views: {quote(name)} is not the name of a node; names are strings")
        found = self._find(name)
        if found is None:
            raise self._unknown(name)
        return View(found, self)

    def __getattr__(self, name: str) -> View:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __iter__(self) -> Iterator[str]:
        names = self._names()
        self._viewed.update(names)
        return iter(names)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._exists(name)

    def __dir__(self) -> list[str]:
        names = [name.replace("-", "_") for name in self._names()]
        return [*super().__dir__(), *(name for name in names if name.isidentifier())]

    def _ipython_key_completions_(self) -> list[str]:
        return self._names()


def unknown_node(name: object, names: list[str], where: str) -> UnknownNodeError:
    """Make an error that names the nearest known nodes."""
    near = difflib.get_close_matches(str(name), names, 3, 0.5) or names[:5]
    known = f"; did you mean {', '.join(near)}?" if near else "; there are no nodes yet"
    return UnknownNodeError(f'no node "{name}" in {where}{known}')
