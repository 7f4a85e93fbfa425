"""Verbs that answer print JSON where a script asks for it, and nothing else on standard output."""

import json
from pathlib import Path

import pytest
from helpers import network

from datafree.cli import main


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("inspect TEACHER", {"card", "weights", "auto", "latency"}),
        ("evaluate TEACHER --data IMAGES --against TEACHER", {"percent", "agreement", "images"}),
        ("students TEACHER --student 2x", {"name", "weights", "latency_ms"}),
        ("estimate TEACHER --teacher TEACHER", {"unknown", "sentences"}),
    ],
)
def test_json(line: str, fields: set[str], tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = tmp_path / "teacher.safetensors"
    network(1, "small-cnn").save(teacher)
    words = [{"TEACHER": str(teacher), "IMAGES": str(images)}.get(word, word) for word in line.split()]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    found = found[0] if isinstance(found, list) else found
    assert fields <= found.keys()
