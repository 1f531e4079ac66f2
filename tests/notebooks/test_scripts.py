"""Every notebook runs as a plain script."""

from __future__ import annotations

import subprocess
import sys

from nbconvert import PythonExporter

from tests.notebooks.test_notebooks import code_cells, each_notebook

RUN_CELLS = """
import ast, asyncio, inspect, pathlib, sys

path = sys.argv[1]
code = compile(pathlib.Path(path).read_text("utf-8"), path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
result = eval(code, {"__name__": "__main__"})
if inspect.iscoroutine(result):
    asyncio.run(result)
"""

@each_notebook
def test_a_notebook_runs_as_a_script_and_prints_the_same(path, apart):
    script = apart / f"{path.stem}.py"
    script.write_text(PythonExporter().from_filename(path)[0], encoding="utf-8")
    command = [sys.executable, "-c", RUN_CELLS, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert without_notices(done.stdout) == without_notices(printed(path))


def without_notices(text):
    """Remove notices: they go to stdout in a notebook, and to stderr in a script."""
    notices = (" now owns node ", " held; space.step() ")
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not any(each in line for each in notices))


def printed(path):
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")
