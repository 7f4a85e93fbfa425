"""One self-contained page a run: what came out, what touched it, its curves and its images."""

import base64
import csv
import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from datafree.core.files import write_text
from datafree.engine.folder import JUDGED, PAGE, flatten

_ENDINGS = {
    " s": ", s",
    " mb": " memory, MiB",
    "mIoU": "mIoU, %",
    "mIoU each": "IoU of each class, %",
    " accuracy": " accuracy, %",
    " oracle": " of an evaluated round (oracle), %",
}
_WIDTH, _HEIGHT = 320, 120  # of a curve, in pixels
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse}td{padding:.15rem 1.2rem .15rem 0;vertical-align:top}td:first-child{color:#666}
figure{display:inline-block;margin:0 1rem 1rem 0}figcaption{font-size:.85rem;color:#666}
img{max-width:100%;image-rendering:pixelated}code{font-size:.85rem;word-break:break-all}
.great{font-size:1.3rem;margin:.3rem 0}
"""


def write_report(folder: Path) -> Path:
    """Write `report.html` of the run in `folder` from its run.json, log.csv and images, and return its path.

    The page needs nothing beside it. Raises `ValueError` where `folder` holds no finished run.
    """
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        results, identity = record["results"], record["identity"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no finished run ({error}); name one.") from error
    name = identity["method"]["name"]
    parts = [
        f"<h1>{escape(identity['student']['architecture'])}, distilled by {escape(name)}</h1>",
        *(f"<p class=great>{escape(line)}</p>" for line in _outcome(record)),
        f"<p>{escape(_provenance(record['provenance']))} This is the student of the last round; the best of the evaluated "
        "rounds (oracle) is one that nobody without labels can choose.</p>",
        "<h2>What it took</h2>",
        _table({key: value for key, value in results.items() if not isinstance(value, dict)}),
        *(f"<h2>{escape(_label(key))}</h2>{_table(value)}" for key, value in results.items() if isinstance(value, dict)),
        "<h2>Curves</h2>",
        *(_curve(key, points) for log in ("preparation.csv", "log.csv") for key, points in _columns(folder / log)),
        *_pictures(folder / "images", with_masks=record.get("task") == "segmentation"),
        "<h2>How it was made</h2>",
        f"<p>{escape(record['source'])}</p><p><code>{escape(record['command'])}</code></p>",
        "<details><summary>All settings</summary>",
        _table(flatten({"machine": record["machine"], "versions": record["versions"], **identity})),
        "</details>",
    ]
    title = f"<title>{escape(name)}: {escape(identity['student']['architecture'])}</title>"
    head = f"<!doctype html><html lang=en><meta charset=utf-8>{title}<style>{_STYLE}</style>"
    write_text(folder / PAGE, head + "\n".join(parts) + "</html>\n")
    return folder / PAGE


def _outcome(record: Mapping[str, Any]) -> list[str]:
    """The sentences that a person looks for first."""
    weights = {who: record[who]["parameters"] for who in ("teacher", "student")}
    times = weights["teacher"] / max(1, weights["student"])
    said = [f"{weights['student']:,} weights, {times:.1f} times fewer than its teacher's {weights['teacher']:,}."]
    results = record["results"]
    for name, word in (("accuracy", "accuracy"), ("miou", "mIoU")):
        if f"student_{name}" in results:
            student, teacher = results[f"student_{name}"], results[f"teacher_{name}"]
            said.append(
                f"{word} {student:.2f} % on {record['provenance']['evaluation']['images']:,} images; teacher {teacher:.2f} %."
            )
    return said


def _provenance(provenance: Mapping[str, Any]) -> str:
    seen = provenance["evaluation"]
    judged = (
        "No real image was used to judge it."
        if seen == "none"
        else f"Real images judged it and did nothing else: {seen['data']}."
    )
    if provenance["data_free"]:
        return f"Data-free: no real image touched the training. {judged}"
    return f"Not data-free: it was trained with {provenance['training']}. {judged}"


def _table(rows: Mapping[str, Any]) -> str:
    cells = (f"<tr><td>{escape(_label(key))}<td>{escape(_said(value))}" for key, value in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _label(key: str) -> str:
    """A key of the record as a person would write it, with its unit."""
    words = key.replace("_", " ").replace("miou", "mIoU").replace("cpu", "CPU")
    for ending, written in _ENDINGS.items():
        if words.endswith(ending):
            return words.removesuffix(ending) + written
    return words


def _said(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _columns(log: Path) -> Iterable[tuple[str, list[tuple[float, float]]]]:
    """Each column of a log that has at least two numbers, as points over the rounds."""
    if not log.exists():
        return
    rows = list(csv.DictReader(log.read_text(encoding="utf-8").splitlines()))
    for name in rows[0] if rows else ():
        points = [(float(row["round"]), float(row[name])) for row in rows if row[name]]
        if name not in ("round", "wall_s", "images") and "/" not in name and len(points) > 1:
            yield name, points


def _curve(name: str, points: list[tuple[float, float]]) -> str:
    (left, right), (low, high) = ((min(values), max(values)) for values in zip(*points, strict=True))
    wide, tall = max(right - left, 1e-12), max(high - low, 1e-12)
    line = " ".join(f"{(x - left) / wide * _WIDTH:.1f},{(high - y) / tall * _HEIGHT + 12:.1f}" for x, y in points)
    label = "<text x='0' y='{}' font-size='10' fill='#666'>{:.4g}</text>".format
    labels = label(10, high) + label(_HEIGHT + 24, low)
    drawn = f"<polyline fill='none' stroke='#06c' stroke-width='1.5' points='{line}'/>"
    return (
        f"<figure><svg width={_WIDTH} height={_HEIGHT + 26}>{labels}{drawn}</svg>"
        f"<figcaption>{escape(name.replace('_', ' '))}, rounds {left:g} to {right:g}</figcaption></figure>"
    )


def _pictures(folder: Path, with_masks: bool) -> Iterable[str]:
    """Real images that judged the student, then what it learned from: named pictures, the first and the last grid."""
    real, grids = folder / JUDGED, sorted(folder.glob("round-*.png"))
    if real.exists():
        yield "<h2>How it sees real images</h2><p>Each with the truth, the teacher's answer and the student's.</p>"
        yield _image(real)
    yield "<h2>What the student looked at</h2>" + with_masks * "<p>Each with the teacher's answer and the student's.</p>"
    others = sorted(set(folder.glob("*.png")) - {real, *grids})
    yield from map(_image, [*others, *dict.fromkeys(grids[:1] + grids[-1:])])


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"<figure><img src='data:image/png;base64,{data}'><figcaption>{escape(path.stem)}</figcaption></figure>"
