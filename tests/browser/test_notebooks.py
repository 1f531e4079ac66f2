"""Every notebook in JupyterLab, as a newcomer runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOKS = sorted(path.name for path in (Path(__file__).parent.parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_run_all_works_twice_without_errors_or_requests_to_elsewhere(tab, notebook):
    tab.open(notebook)
    tab.run_all()
    assert tab.error_outputs() == []
    tab.run_all()
    assert tab.error_outputs() == []
    tab.shoot(Path(notebook).stem)
    assert tab.console_errors == []
    assert tab.off_site == []
