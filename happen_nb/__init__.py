"""happen_nb: a notebook as a live, distributed, stateful system.

Nodes own states, which are stored in NATS JetStream. Pure transforms change the states, views read them, and
every change can be shown, compared and reverted.

Examples
--------
>>> import happen_nb as happen
>>> shop = happen.connect(store=":memory:", name="readme")
>>> orders = shop.create_node("orders", initial={"open": 0})
>>> orders.state.set(lambda s: {**s, "open": s["open"] + 1}).after
{'open': 1}
>>> shop.close()
"""

from happen_nb import errors
from happen_nb._api import connect as connecting  # noqa: F401 - its former name: scripts use its registry
from happen_nb._api.connect import (
    aconnect,
    acreate_node,
    aspaces,
    connect,
    create_node,
    current,
    recorded,
    run,
    spaces,
)
from happen_nb._api.diagrams import SequenceDiagram, WaterfallDiagram
from happen_nb._api.emit import event
from happen_nb._api.events import Event, Events, Trace
from happen_nb._api.history import Commit, History, Journal
from happen_nb._api.node import Node
from happen_nb._api.recording import Recording
from happen_nb._api.replay import Replay
from happen_nb._api.reply import Reply
from happen_nb._api.space import NatsServer, Space
from happen_nb._api.state import State
from happen_nb._api.state_writer import emitted
from happen_nb._api.views import View, Views, Watch
from happen_nb._model.drafts import draft
from happen_nb._model.transforms import compose, put
from happen_nb._runtime.attempt import Result
from happen_nb._runtime.causes import carry
from happen_nb._widgets.bind import Binding, bind
from happen_nb.errors import *  # noqa: F403 - each of them is public

__version__ = "0.1.0"

__all__ = [
    "Binding",
    "Commit",
    "Event",
    "Events",
    "History",
    "Journal",
    "NatsServer",
    "Node",
    "Recording",
    "Replay",
    "Reply",
    "Result",
    "SequenceDiagram",
    "Space",
    "State",
    "Trace",
    "View",
    "Views",
    "Watch",
    "WaterfallDiagram",
    "aconnect",
    "acreate_node",
    "aspaces",
    "bind",
    "carry",
    "compose",
    "connect",
    "create_node",
    "current",
    "draft",
    "emitted",
    "event",
    "put",
    "recorded",
    "run",
    "spaces",
]
__all__ += errors.__all__


def load_ipython_extension(shell: object) -> None:
    """Load the extension (``%load_ext happen_nb``): ``%happen``, completion of nodes, types and paths."""
    from happen_nb._ipython import load

    load(shell)


def unload_ipython_extension(shell: object) -> None:
    """Unload the extension (``%unload_ext happen_nb``)."""
    from happen_nb._ipython import unload

    unload(shell)


def __dir__() -> list[str]:
    """List the public names, without the modules that define them."""
    return sorted(__all__)
