"""The commands that the documents give are understood, so that no line of them is out of date."""

import re
import shlex
from pathlib import Path

import pytest

from datafree.cli import _app
from datafree.experiments import EXPERIMENTS
from datafree.nets import OURS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "benchmarks" / "gpu_queue.md", *(ROOT / "docs").rglob("*.md")]
PLACEHOLDERS = {"NAME", "$a"}


def commands() -> list[str]:
    """Each whole command once: those that write somewhere, or reproduce something."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS).replace("\\\n", " ").replace("\\|", "|")
    lines = re.findall(r"(?<![\w/])datafree [a-z-]+ [^`\n;']*", text)
    return list(dict.fromkeys(line.strip() for line in lines if " --out " in line or line.startswith("datafree reproduce")))


def test_there_are_some() -> None:
    assert {line.split()[1] for line in commands()} >= {"pack", "teach", "distill", "synthesize", "export-set", "reproduce"}


@pytest.mark.parametrize("line", commands())
def test_a_command_is_understood(line: str) -> None:
    tokens = shlex.split(line)[1:]
    _app(tokens).parse_args(tokens, exit_on_error=False, print_error=False)
    named = [tokens[i + 1] for i, token in enumerate(tokens) if token in ("--arch", "--student")]
    assert set(named) <= {*OURS, *PLACEHOLDERS}
    if tokens[0] == "reproduce":
        assert tokens[1] in {*EXPERIMENTS, *PLACEHOLDERS}
