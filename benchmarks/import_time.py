"""Whole processes that import happen_nb, beside ones that import what it needs anyway: nats-py and orjson.

Run it with ``python benchmarks/import_time.py``. Both read compiled bytecode, as installed packages do. It
also says which of the heavy packages that only some users need were imported: there must be none.
"""

import os
import subprocess
import sys
import tempfile

from side_by_side import alternate, report

HEAVY = ("pandas", "plotly", "ipywidgets", "IPython", "numpy", "nest_asyncio2")
ROUNDS = 15


class Python:
    """Runs code in a process of its own; the first run compiles what it imports."""

    def __init__(self, bytecode):
        self.environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(self, code):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=self.environment)
        return done.stdout.strip()


def main():
    with tempfile.TemporaryDirectory() as bytecode:
        python = Python(bytecode)

        def ours():
            python.run("import happen_nb")

        needed = alternate(ours, lambda: python.run("import nats, orjson"), ROUNDS)
        report("import happen_nb", needed, peer="nats, orjson", bar=1.5)
        report("Python itself", alternate(ours, lambda: python.run("pass"), ROUNDS), peer="nothing")
        heavy = python.run(
            f"import happen_nb, sys; print(*(name for name in {HEAVY} if name in sys.modules))"
        )
    print(f"heavy packages imported: {heavy or 'none'}")
    sys.exit(bool(heavy))


if __name__ == "__main__":
    main()
