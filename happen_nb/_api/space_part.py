"""The base of the parts of a space, which share its runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from happen_nb._runtime.redirect import Redirected, instead_of

if TYPE_CHECKING:
    from happen_nb._api.failures import Failures
    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._api.unhandled import Facts
    from happen_nb._api.views import Views
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runtime import Runtime


class SpacePart:
    """Base of the parts of `Space`, one for each feature."""

    _name: Redirected[str] = Redirected()
    _failures: Redirected[Failures] = Redirected()
    _facts: Redirected[Facts] = Redirected()
    _runtime: Redirected[Runtime] = Redirected()
    _nodes: Redirected[dict[str, Node]] = Redirected()
    _views: Redirected[Views] = Redirected()

    @property
    def name(self) -> str:
        return self._name

    @property
    def views(self) -> Views:
        return self._views

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def failures(self) -> Failures:
        return self._failures

    @property
    def _space(self) -> Space:
        """The space; in code of a fork, the fork."""
        return cast("Space", instead_of(self))

    @property
    def _log(self) -> Log:
        return self._runtime.log
