"""The supervisor's script: ``python -I -S supervisor.py STORE NATS_SERVER SYNC KEEP_OR_REMOVE TIMEOUT``.

It does not import the library, only the standard library, so that it starts fast and needs no package
of the kernel's environment. Its code is the package `supervision` beside this file.
"""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import importlib
import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.exit(importlib.import_module("supervision.main").main(sys.argv[1:]))
