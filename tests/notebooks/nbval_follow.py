"""Let nbval 0.11 collect outputs as JupyterLab and nbclient do: a pytest plugin, loaded by ``-p``.

Without it, nbval counts the output that an Output widget captures as output of the cell, ignores
``update_display`` and ``clear_output``, and does not mask JSON outputs. Its kernels listen on ports that another
process may take before they do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.modules.setdefault("rfc3987_syntax", None)  # as in conftest.py, which is loaded later

from nbval import kernel
from nbval.plugin import IPyNbCell, IPyNbFile

from happen_nb.learn import kernel_manager, start_kernel
from tests.notebooks.figures import is_figure, outline

OUTPUTS = {"stream", "display_data", "execute_result", "error"}
FOR_OUTPUT_WIDGETS = OUTPUTS | {"clear_output", "update_display_data"}

ONLY_RESULTS = """
from happen_nb._display import live_output

live_output.SHOW_AFTER_SECONDS = float("inf")
"""

_setup = IPyNbFile.setup
_next_message = IPyNbFile.get_kernel_message
_run = IPyNbCell.runtest
_sanitize = IPyNbCell.sanitize


def show_only_results(ipython: Path) -> str:
    """Make a folder of IPython whose kernels show no progress: it depends on the speed of the machine."""
    startup = ipython / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "only_results.py").write_text(ONLY_RESULTS)
    return str(ipython)


def setup(file: Any) -> None:
    """Start the kernel with its own store."""
    file.captured_by, file.displayed, file.clear_before_next = {}, {}, False
    folder = file.config._tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAPPEN_STORE", str(folder / ".happen"))
        patch.setenv("IPYTHONDIR", show_only_results(folder / "ipython"))
        patch.delenv("NATS_URL", raising=False)
        patch.delenv("PYTEST_CURRENT_TEST", raising=False)  # it stops ipykernel capturing child processes
        _setup(file)


def runtest(cell: Any) -> Any:
    """Record which cell runs."""
    cell.parent.running, cell.parent.clear_before_next = cell, False
    return _run(cell)


def get_kernel_message(file: Any, timeout: float | None = None, stream: str = "iopub") -> Any:
    """Return the next message for the running cell; apply the messages that change outputs."""
    while True:
        message = _next_message(file, timeout=timeout, stream=stream)
        if not _is_applied(file, message):
            return message


def _is_applied(file: Any, message: Any) -> bool:
    kind, content = message["msg_type"], message["content"]
    outputs = file.running.test_outputs
    _record_capture(file, kind, content)
    if kind in FOR_OUTPUT_WIDGETS and message["parent_header"].get("msg_id") in file.captured_by.values():
        return True
    if kind == "update_display_data":
        for shown_in, position in file.displayed.get(content["transient"]["display_id"], ()):
            if position < len(shown_in):
                shown_in[position]["data"] = content["data"]
        return True
    if kind == "clear_output":
        _clear(file, outputs, wait=content.get("wait", False))
        return True
    if kind in OUTPUTS:
        if file.clear_before_next:
            _clear(file, outputs, wait=False)
        if display_id := content.get("transient", {}).get("display_id"):
            file.displayed.setdefault(display_id, []).append((outputs, len(outputs)))
    return False


def _record_capture(file: Any, kind: str, content: Any) -> None:
    """Record which output an Output widget captures: its ``msg_id`` names the cell; an empty one ends it."""
    if kind in {"comm_open", "comm_msg"}:
        state = content.get("data", {}).get("state", {})
        if "msg_id" in state:
            file.captured_by[content["comm_id"]] = state["msg_id"]


def _clear(file: Any, outputs: list[Any], *, wait: bool) -> None:
    file.clear_before_next = wait
    if not wait:
        outputs.clear()


def sanitize(cell: Any, value: Any) -> Any:
    """Mask JSON outputs too, and reduce figures to their outline."""
    if is_figure(value):
        value = outline(value)
    if isinstance(value, dict):
        return {key: sanitize(cell, part) for key, part in value.items()}
    if isinstance(value, list):
        return [sanitize(cell, part) for part in value]
    return _sanitize(cell, value)


def start_new_kernel(startup_timeout: float = 60, kernel_name: str = "python", **options: Any) -> Any:
    """Start a kernel that listens on sockets in a folder of its own."""
    specs = kernel.NbvalKernelspecManager()
    manager = kernel_manager(kernel_name=kernel_name, kernel_spec_manager=specs)
    return manager, start_kernel(manager, startup_timeout, **options)


kernel.start_new_kernel = start_new_kernel
IPyNbFile.setup, IPyNbFile.get_kernel_message = setup, get_kernel_message
IPyNbCell.runtest, IPyNbCell.sanitize = runtest, sanitize
