"""A person sees at once, and then all the time, that work goes on and how much of it is left."""

import io
import time

import pytest

from datafree.engine import progress
from datafree.engine.progress import Progress


def test_the_first_line_comes_at_once_and_others_while_nothing_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.2)
    work = Progress(total=80, done=3)
    assert capsys.readouterr().err == "round 3/80\n"
    time.sleep(0.7)  # one long round
    work.close()
    assert capsys.readouterr().err.count("round 3/80\n") >= 2
    time.sleep(0.4)
    assert not capsys.readouterr().err, "it is closed"


def test_every_round_counts_and_what_was_measured_stays_in_sight() -> None:
    work = Progress(total=80, done=0, quiet=True)
    work.show(50, {"loss": 0.123456})
    work.advance(51)
    assert work.line().startswith("round 51/80  loss 0.1235  0:00 left")


def test_the_rate_is_shown_only_where_images_are_made() -> None:
    work = Progress(total=3, done=0, quiet=True)
    work.show(1, {"loss": 1}, images=50)
    assert "images/s" in work.line()
    work.show(2, {"loss": 1})
    assert "images/s" not in work.line()


def test_the_time_left_follows_a_slower_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    work = Progress(total=1000, done=0, quiet=True)
    for round_ in range(1, 101):
        now += 6 if round_ <= 50 else 60  # seconds
        work.show(round_, {"loss": 1})
        if round_ == 50:
            assert work.line().endswith("1:35:00 left")
    assert work.line().endswith(("15:00:00 left", "14:59:59 left"))


def test_a_terminal_gets_a_live_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    work = Progress(total=4, done=0)
    work.show(4, {"loss": 0.5})
    work.close()
    assert "round 4/4  loss 0.5" in screen.getvalue()
    assert "\x1b[" in screen.getvalue()


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    work = Progress(total=4, done=0, quiet=True)
    work.show(4, {"loss": 0.5})
    work.close()
    assert capsys.readouterr() == ("", "")
