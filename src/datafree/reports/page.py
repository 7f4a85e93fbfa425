"""One self-contained page a run: what came out, which real images touched it, its curves and its pictures.

Here the facts are put together; `page.html.j2` says how they look.
"""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from datafree.core.files import write_text
from datafree.core.settings import first_line
from datafree.engine.preparation import PREPARATION
from datafree.engine.record import JUDGED, PAGE, flatten, read_record
from datafree.reports.charts import curves
from datafree.reports.guess import guess_of
from datafree.reports.labels import label, number

MOST_BYTES = 2**26  # of all pictures in a page
MOST_NAMES = 10  # of pictures that are left out

_TEMPLATES = Environment(
    loader=PackageLoader("datafree.reports", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_report(folder: Path) -> Path:
    """Write `report.html` of the run in `folder` from its run.json, logs and images, and return its path.

    The page needs nothing beside it. Raises `ValueError` where `folder` holds no finished run.
    """
    try:
        facts = _facts(read_record(folder / "run.json"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no finished run ({first_line(error)}); name one.") from error
    facts |= {**_curves(folder), **pictures_of(folder / "images")}
    write_text(folder / PAGE, render("page.html.j2", facts))
    return folder / PAGE


def render(template: str, facts: Mapping[str, Any]) -> str:
    """A page from its template in this folder."""
    return _TEMPLATES.get_template(template).render(facts)


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page takes from run.json."""
    results, identity = record["results"], record["identity"]
    settings = flatten({"machine": record["machine"], "versions": record["versions"], **identity})
    return {
        "architecture": identity["student"]["architecture"],
        "method": identity["method"]["name"],
        "outcome": _outcome(record),
        "provenance": _provenance(record["provenance"]),
        "evaluated": record["provenance"]["evaluation"] != "none",
        "segmentation": record.get("task") == "segmentation",
        "results": [_row(label(key), value) for key, value in results.items() if not isinstance(value, dict)],
        "tables": [_table(key, rows) for key, rows in results.items() if isinstance(rows, dict)],
        "guess": guess_of(record),
        "data_free": bool(record["provenance"]["data_free"]),
        "time": _time(results),
        "source": record["source"],
        "reasons": record.get("auto", []),
        "command": record["command"],
        "settings": [(key, str(value)) for key, value in settings.items()],
    }


def _outcome(record: Mapping[str, Any]) -> list[str]:
    """The sentences that a person looks for first."""
    lines, results = [_size(record["student"]["parameters"], record["teacher"]["parameters"])], record["results"]
    for name, word in (("accuracy", "accuracy"), ("miou", "mIoU")):
        if f"student_{name}" in results:
            student, teacher = results[f"student_{name}"], results[f"teacher_{name}"]
            images = record["provenance"]["evaluation"]["images"]
            lines.append(f"Its {word} is {student:.2f} % on {images:,} images; its teacher's is {teacher:.2f} %.")
    return lines


def _time(results: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Where the wall time went: names, times and shares in percent of the phases, and of all the rest; none if nobody knows."""
    phases = {key: results[key] for key in results if key.endswith("_s") and key not in ("wall_s", "cpu_s")}
    total = max(results.get("wall_s", 0.0), sum(phases.values()))
    if not phases or total <= 0:
        return []
    parts = phases | {"everything else_s": total - sum(phases.values())}
    return [(label(key), number(value, label(key)), round(100 * value / total, 1)) for key, value in parts.items()]


def _size(student: int, teacher: int) -> str:
    if not teacher:
        return f"The student has {student:,} weights; its teacher's are not known."
    times = f"{teacher / max(1, student):.1f} times fewer than" if student < teacher else "no fewer than"
    return f"The student has {student:,} weights, {times} its teacher's {teacher:,}."


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


def _row(title: str, value: object) -> tuple[str, str]:
    return title, number(value, title)


def _table(key: str, rows: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]], str]:
    """Heading, rows and note of a table within the results; the names of classes stay as they are."""
    title = label(key)
    if not key.endswith("_each"):
        return title, [_row(label(name), value) for name, value in rows.items()], ""
    note = "No value: the class is neither in the images nor in the student's answers."
    return title, [(name, number(value, title)) for name, value in rows.items()], note if None in rows.values() else ""


def _curves(folder: Path) -> dict[str, Any]:
    return {"preparation": curves(folder / PREPARATION, "slice"), "training": curves(folder / "log.csv", "round")}


def pictures_of(folder: Path) -> dict[str, Any]:
    """Real images that judged the student, and what it learned from: named pictures, the first and the last grid."""
    real, grids = folder / JUDGED, sorted(folder.glob("round-*.png"))
    others = sorted(set(folder.glob("*.png")) - {real, *grids})
    shown, hidden = _small([real, *dict.fromkeys(grids[:1] + grids[-1:]), *others])
    return {
        "real": _embedded([real] if real in shown else []),
        "seen": _embedded(path for path in (*others, *dict.fromkeys(grids[:1] + grids[-1:])) if path in shown),
        "hidden": [path.name for path in hidden[:MOST_NAMES]] + ["..."] * (len(hidden) > MOST_NAMES),
    }


def _small(paths: Iterable[Path]) -> tuple[set[Path], list[Path]]:
    """Those of the files `paths` that a page holds, up to `MOST_BYTES` together, and those that are left out."""
    shown, hidden, room = set(), [], MOST_BYTES
    for path in filter(Path.is_file, paths):
        if path.stat().st_size > room:
            hidden.append(path)
        else:
            shown.add(path)
            room -= path.stat().st_size
    return shown, hidden


def _embedded(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """Names of PNG files and their bytes in base64."""
    return [(path.stem, base64.b64encode(path.read_bytes()).decode("ascii")) for path in paths]
