"""Whatever a text holds, it is printed as one line of visible characters."""

import io
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafree.core.terminal import LONGEST, printable, show

TEXTS = st.text(st.characters()) | st.text(st.sampled_from("a\x1b[2J\r\n\x85\u2028\u202e\u200b\udcff\x9b é中"))


@given(TEXTS)
def test_a_line_has_only_visible_characters(text: str) -> None:
    line = printable(text)
    assert len((line + "|").splitlines()) == 1
    assert all(unicodedata.category(character)[0] in "LMNPS" or unicodedata.category(character) == "Zs" for character in line)
    assert printable(line) == line


def test_letters_of_all_languages_stay_as_they_are() -> None:
    for text in ("plain text, 100 % ± 0.5", "Größe", "中文 目录", "ελληνικά"):
        assert printable(text) == text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@given(text=TEXTS)
def test_every_text_can_be_printed_in_every_encoding(encoding: str, text: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        show(text, "last", error=True)
    lines = stream.buffer.getvalue().decode(encoding).split("\n")  # type: ignore[attr-defined]
    assert lines[1:] == ["last", ""]


def test_a_huge_error_is_cut_in_its_middle(capsys: pytest.CaptureFixture[str]) -> None:
    show("first " + "x" * 10**6 + " last", error=True)
    line = capsys.readouterr().err
    assert len(line) < LONGEST + 20
    assert line.startswith("first ")
    assert line.endswith(" last\n")
