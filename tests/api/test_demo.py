"""The demo keeps its promise."""

from pathlib import Path

import pytest

from datafree import demo


def test_demo_student_is_good_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    scores = demo(seed=0, out=tmp_path / "demo")
    assert scores["student"] >= 90
    assert scores["student"] >= scores["teacher"] - 5
    assert scores["noise"] <= scores["student"] - 5
    printed = capsys.readouterr().out
    assert f"{scores['student']:5.1f} %" in printed
    assert list((tmp_path / "demo" / "run" / "images").iterdir())
