"""The run log survives kills."""

from pathlib import Path

import pytest

from datafree.engine import log as logs
from datafree.engine.log import RunLog


def write(path: Path, start: int, stop: int) -> RunLog:
    log = RunLog(path, rounds=100, start=start, quiet=True)
    for round_ in range(start + 1, stop + 1):
        values = {"loss": 1 / round_, "images": 8 * round_}
        log.write(round_, values | ({"accuracy": 50 + round_} if round_ % 3 == 0 else {}))
    log.close()
    return log


@pytest.mark.parametrize("start", [0, 1, 3, 4, 7])
def test_a_resumed_log_is_the_unbroken_one(tmp_path: Path, start: int) -> None:
    write(tmp_path / "whole.csv", 0, 10)
    write(tmp_path / "broken.csv", 0, 8)
    log = write(tmp_path / "broken.csv", start, 10)
    assert (tmp_path / "broken.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert log.best("accuracy") == 59
    assert log.best("nothing") is None


def test_a_line_that_a_kill_cut_is_dropped(tmp_path: Path) -> None:
    write(tmp_path / "whole.csv", 0, 10)
    write(tmp_path / "cut.csv", 0, 8)
    text = (tmp_path / "cut.csv").read_text()
    (tmp_path / "cut.csv").write_text(text[:-9])  # the line of round 8 is cut inside
    write(tmp_path / "cut.csv", 7, 10)
    assert (tmp_path / "cut.csv").read_text() == (tmp_path / "whole.csv").read_text()


@pytest.mark.parametrize(
    ("text", "size", "words"),
    [("round\n", 2**33, "larger than 64 MiB"), ("round" + ",x" * 9 + "\n" + "1\n" * 9, 0, "it has 10 lines of 10 values")],
)
def test_a_log_that_would_fill_the_memory_is_refused(
    text: str, size: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_VALUES", 199)
    with (tmp_path / "log.csv").open("w") as file:
        file.write(text)
        file.truncate(size or None)
    with pytest.raises(ValueError, match=words):
        logs.read_rows(tmp_path / "log.csv")
