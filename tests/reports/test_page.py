"""The page of a run."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers import TINY, network

from datafree import DFAD, Plan, Recipe, Stored, distill
from datafree.engine.method import Method
from datafree.reports.page import write_report

PLAN = Plan(rounds=4, steps=1, batch=4, log_every=1, eval_every=2, grid_every=2)


class Checker(HTMLParser):
    """Collects what a page would fetch, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.fetched += [str(value) for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(tmp_path: Path, method: Method, eval_data: Path | None = None) -> tuple[str, Checker]:
    out = tmp_path / "run"
    data = str(eval_data) if eval_data else None
    distill(network(1), TINY, recipe=Recipe(method, PLAN, "a <b> source"), out=out, eval_data=data, quiet=True, device="cpu")
    text = (out / "report.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    return text, checker


def test_the_page_says_what_came_out_and_needs_nothing_beside_it(tmp_path: Path, images: Path) -> None:
    text, seen = page(tmp_path, DFAD(latent={"size": 4, "width": 8}, batch=4), images)
    words = " ".join(seen.words)
    results = json.loads((tmp_path / "run" / "run.json").read_text())["results"]
    assert f"accuracy {results['student_accuracy']:.2f} % on 40 images; teacher {results['teacher_accuracy']:.2f} %" in words
    assert "Data-free: no real image touched the training" in words
    assert "last round" in words
    assert len(re.findall("<polyline", text)) >= 3  # two losses and the accuracy
    assert len(seen.fetched) == 2, "the first and the last grid"
    assert all(source.startswith("data:image/png;base64,") for source in seen.fetched)
    assert "http" not in text
    assert html.escape("a <b> source") in text
    assert "How it sees real images" not in words, "where no pixel is judged there is no such picture"
    assert {"wall, s", "peak memory, MiB", "student accuracy, %", "best accuracy of an evaluated round (oracle), %"} <= set(
        seen.words
    )


def test_the_page_says_what_real_images_touched(tmp_path: Path, images: Path) -> None:
    _, seen = page(tmp_path, Stored(path=images))
    words = " ".join(seen.words)
    assert "Not data-free: it was trained with file images.npz." in words
    assert "No real image was used to judge it." in words


def test_a_folder_without_a_finished_run_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished run"):
        write_report(tmp_path)
