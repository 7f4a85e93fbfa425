"""The notebook in examples/ runs from its first cell to its last, with a bar, and its student is good."""

import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_student.ipynb"


def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat reads the notebook")
    client = pytest.importorskip("nbclient", reason="nbclient runs the notebook")
    pytest.importorskip("sklearn", reason="scikit-learn's digits teach its teacher")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is committed without outputs"
    client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    written = "".join(_text(cell) for cell in notebook.cells)
    assert "Its accuracy is about" in written
    found = re.search(r"([\d.]+) % right, agrees", written)
    assert found
    assert float(found[1]) > 80
    kinds = {name for cell in notebook.cells for output in cell.get("outputs", []) for name in output.get("data", {})}
    assert "image/png" in kinds
    assert "application/vnd.jupyter.widget-view+json" in kinds, "the bar"
    assert (tmp_path / "first" / "report.html").exists()


def _text(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.get("outputs", []))
