"""The page of a run."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers import TINY, network

from datafree import DFAD, Plan, Recipe, Stored, distill
from datafree.engine.method import Method
from datafree.reports import page as page_module
from datafree.reports.page import write_report

PLAN = Plan(rounds=4, steps=1, batch=4, log_every=1, eval_every=2, grid_every=2)


class Checker(HTMLParser):
    """Collects a page's tags with the names of their attributes, what it would fetch, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[tuple[str, ...]] = set()
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add((tag, *(name for name, _ in attrs)))
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(tmp_path: Path, method: Method, eval_data: Path | None = None) -> tuple[str, Checker]:
    out = tmp_path / "run"
    data = str(eval_data) if eval_data else None
    distill(network(1), TINY, recipe=Recipe(method, PLAN, "a <b> source"), out=out, eval_data=data, quiet=True, device="cpu")
    text = (out / "report.html").read_text(encoding="utf-8")
    return text, Checker(text)


def test_the_page_says_what_came_out_and_needs_nothing_beside_it(tmp_path: Path, images: Path) -> None:
    text, seen = page(tmp_path, DFAD(latent={"size": 4, "width": 8}, batch=4), images)
    words = " ".join(seen.words)
    results = json.loads((tmp_path / "run" / "run.json").read_text())["results"]
    student, teacher = results["student_accuracy"], results["teacher_accuracy"]
    assert f"Its accuracy is {student:.2f} % on 40 images; its teacher's is {teacher:.2f} %." in words
    assert "Data-free: no real image touched the training" in words
    assert "last round" in words
    assert len(re.findall("<polyline", text)) >= 3  # two losses and the accuracy
    assert len(seen.fetched) == 2, "the first and the last grid"
    assert all(source.startswith("data:image/png;base64,") for source in seen.fetched)
    assert "http" not in text
    assert "prefers-color-scheme: dark" in text
    assert ("meta", "name", "content") in seen.tags, "without a viewport a narrow screen shows a wide page, small"
    assert html.escape("a <b> source") in text
    assert {"accuracy, %", "student loss", "generator gap", "round"} <= set(seen.words), "titles and the x axis"
    assert "How it sees real images" not in words, "where no pixel is judged there is no such picture"
    assert {
        "wall time, s",
        "peak memory, MiB",
        "student accuracy, %",
        "best accuracy of an evaluated round (oracle), %",
    } <= set(seen.words)


HOSTILE = "<script>alert('\"&')</script>"


def finished(folder: Path) -> dict[str, Any]:
    """The least record of a run that judged pixels."""
    folder.mkdir()
    return {
        "identity": {"student": {"architecture": "small"}, "method": {"name": "dfad", "tau_s": 0.123456789}, "seed": 1234},
        "results": {"rounds": 2000, "peak_mb": None, "wall_s": 12345.678, "student_miou": 40.0, "teacher_miou": 50.0},
        "command": "datafree distill",
        "source": "a paper",
        "task": "segmentation",
        "versions": {"torch": "2.9"},
        "machine": "CPU",
        "provenance": {"data_free": True, "training": "none", "evaluation": {"data": "streets", "images": 1234}},
        "teacher": {"parameters": 1000},
        "student": {"parameters": 400},
    }


def written(folder: Path, record: dict[str, Any]) -> tuple[str, Checker]:
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    text = write_report(folder).read_text(encoding="utf-8")
    return text, Checker(text)


def test_words_of_the_record_never_become_markup(tmp_path: Path) -> None:
    record = finished(tmp_path / "run")
    harmless, hostile = (tmp_path / "run" / "images" / name for name in ("grid.png", "<script>'\"&.png"))
    harmless.parent.mkdir()
    harmless.write_bytes(b"png")
    log = tmp_path / "run" / "log.csv"
    log.write_text("round,loss\n1,1\n2,2\n")
    record["results"]["student_miou_each"] = {"road": 12.5}
    _, plain = written(tmp_path / "run", record)
    harmless.rename(hostile)
    record["identity"] = {"student": {"architecture": HOSTILE}, "method": {"name": HOSTILE}, HOSTILE: HOSTILE}
    record["results"] |= {"student_miou_each": {HOSTILE: 12.5}, HOSTILE: HOSTILE}
    record["provenance"]["evaluation"]["data"] = HOSTILE
    record |= {"command": HOSTILE, "source": HOSTILE, "machine": HOSTILE}
    column = HOSTILE.replace("/", "").replace('"', "")  # a slash marks a column that is not shown, a quote is CSV's own
    log.write_text(f"round,{column}\n1,1\n2,2\n")
    text, seen = written(tmp_path / "run", record)
    assert "<script" not in text
    assert seen.tags == plain.tags, "no tag and no attribute came in"
    assert seen.words.count(HOSTILE) == 10, "they are shown as they are"


def test_numbers_are_shown_with_their_units_and_settings_exactly(tmp_path: Path) -> None:
    record = finished(tmp_path / "run")
    record["results"]["student_miou_each"] = {"road_s": 12.5, "sky": None}
    text, seen = written(tmp_path / "run", record)
    rows = dict(re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', text))
    assert rows["rounds"] == "2,000"
    assert rows["wall time, s"] == "12,346"
    assert rows["peak memory, MiB"] == "no value"
    assert rows["student mIoU, %"] == "40.00"
    assert rows["road_s"] == "12.50", "the name of a class is not a key"
    assert rows["sky"] == "no value"
    assert "No value: the class is neither in the images nor in the student's answers." in seen.words
    assert rows["method.tau_s"] == "0.123456789"
    assert rows["seed"] == "1234"
    assert "The student has 400 weights, 2.5 times fewer than its teacher's 1,000." in seen.words


@pytest.mark.parametrize("weights", [1000, 2000])
def test_a_student_that_is_not_smaller_is_not_called_so(tmp_path: Path, weights: int) -> None:
    record = finished(tmp_path / "run")
    record["student"]["parameters"] = weights
    _, seen = written(tmp_path / "run", record)
    assert f"The student has {weights:,} weights, no fewer than its teacher's 1,000." in seen.words


def test_both_logs_are_drawn_and_a_long_one_stays_small(tmp_path: Path) -> None:
    record = finished(tmp_path / "run")
    small = len(written(tmp_path / "run", record)[0])
    (tmp_path / "run" / "preparation.csv").write_text("round,diffusion_loss\n1,3\n2,2\n3,1\n")
    lines = "".join(f"{i},{i % 13}\n" for i in range(1, 50_001))
    (tmp_path / "run" / "log.csv").write_text(f"round,student_loss\n{lines}")
    text, seen = written(tmp_path / "run", record)
    assert len(text) - small < 20_000
    assert text.count("<polyline") == 2
    words = seen.words
    assert words.index("Before the first round") < words.index("slice") < words.index("round")
    assert "slices 1 to 3; lowest 1, highest 3, last 1" in words
    assert "rounds 1 to 50,000; lowest 0, highest 12, last 2" in words


def test_the_page_says_what_real_images_touched(tmp_path: Path, images: Path) -> None:
    _, seen = page(tmp_path, Stored(path=images))
    words = " ".join(seen.words)
    assert "Not data-free: it was trained with file images.npz." in words
    assert "No real image was used to judge it." in words


def test_a_folder_without_a_finished_run_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished run"):
        write_report(tmp_path)


def test_pictures_beyond_a_size_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MOST_BYTES", 100)
    for name, size in (("a", 2**33), ("b", 30), ("evaluation", 40), ("round-1", 20), ("round-2", 9), ("round-3", 8), ("z", 30)):
        with (tmp_path / f"{name}.png").open("wb") as file:
            file.truncate(size)
    found = page_module.pictures_of(tmp_path)
    assert [name for name, _ in found["real"]] == ["evaluation"]
    assert [name for name, _ in found["seen"]] == ["b", "round-1", "round-3"]
    assert found["hidden"] == ["a.png", "z.png"]
