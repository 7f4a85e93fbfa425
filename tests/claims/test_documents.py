"""The commands that the documents give are understood, so that no line of them is out of date."""

import re
import shlex
from pathlib import Path

import pytest

from datafree.cli.app import COMMANDS, RECIPE_COMMANDS, _app
from datafree.core.spelling import parse_spelling
from datafree.networks.architectures import ARCHITECTURES
from datafree.networks.shrink.request import parse_request
from datafree.recipes.experiments import EXPERIMENTS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "benchmarks" / "gpu_queue.md", *(ROOT / "docs").rglob("*.md")]
PLACEHOLDERS = {"NAME", "$a"}


def commands() -> list[str]:
    """Each whole command once: the lines of code blocks, and in the text what writes somewhere or reproduces something."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS).replace("\\\n", " ").replace("\\|", "|")
    blocks = re.findall(r"^datafree [a-z-]+ .*", text, re.MULTILINE)
    lines = re.findall(r"(?<![\w/])datafree [a-z-]+ [^`\n;']*", text)
    whole = [line for line in lines if " --out " in line or line.startswith("datafree reproduce")]
    return list(dict.fromkeys(line.strip() for line in [*blocks, *whole]))


def test_there_are_some() -> None:
    assert {line.split()[1] for line in commands()} >= {*COMMANDS, *RECIPE_COMMANDS} - {"demo"}


@pytest.mark.parametrize("line", commands())
def test_a_command_is_understood(line: str) -> None:
    tokens = shlex.split(line)[1:]
    _app(tokens).parse_args(tokens, exit_on_error=False, print_error=False)
    named = [tokens[i + 1] for i, token in enumerate(tokens) if token in ("--arch", "--student")]
    named = [parse_spelling(each)[0] for each in named if not parse_request(each) and ":" not in each]  # not of others
    assert set(named) <= {*ARCHITECTURES, *PLACEHOLDERS}
    if tokens[0] == "reproduce":
        assert tokens[1] in {*EXPERIMENTS, *PLACEHOLDERS}


def test_links_between_documents_lead_somewhere() -> None:
    missing = [
        f"{path.name}: {link}"
        for path in DOCUMENTS
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
        if not (path.parent / link).exists()
    ]
    assert not missing
