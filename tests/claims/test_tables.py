"""The numbers of the README and the docs are those of the results files."""

import json
from pathlib import Path

import pytest
import tables

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def test_documents_are_what_the_script_writes() -> None:
    for path, text in tables.written().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make tables`"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_say_where_they_come_from(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["command"].startswith(("python benchmarks/", "datafree "))
    assert {"machine", "versions"} <= set(result)
    if isinstance(result.get("runs"), list):
        assert {"recipe", "task", "teacher_arch", "student_arch", "paper", "teacher", "baselines"} <= set(result)
        for run in result["runs"]:
            assert {"seed", "last", "best_epoch", "rounds", "wall_s", "cpu_s", "peak_mb"} <= set(run)
            assert run["last"] <= run["best_epoch"]


def test_a_speed_file_of_both_kinds_becomes_two_tables() -> None:
    """As `speed.py --cases all` writes it: what torch.compile is measured against is not the plain loop."""
    names = ("speed-cpu", "speed-cpu-compiled")
    plain, compiled = (json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["cases"] for name in names)
    first, second = tables.speed_tables([{"cases": compiled | plain, "command": "both"}]).split("\n\n`both`")[:2]
    assert "| plain loop | ours |" in first
    assert "| as it is | by torch.compile |" in second
    assert (first.count("x** ("), second.count("x** (")) == (len(plain), len(compiled))  # a ratio a row
