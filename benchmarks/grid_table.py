"""The tables of `auto`: each method on each case at equal budgets, and what each of its choices brings."""

import statistics
from typing import Any

FIRST = ("kd-real", "auto")  # the row that the others are measured against, and the one that most people want


def grid_table(results: list[dict[str, Any]]) -> str:
    """One row for each case and method; the share is of KD on real data within the same budget."""
    lines = [
        "| case | method | last student | share of KD on real data | second half of the run | agrees with its teacher "
        "| student steps | images | CPU seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [row for result in results for row in result["rows"] if "second_half_mean" in row]
    for case in dict.fromkeys(row["case"] for row in rows):
        methods = {row["method"] for row in rows if row["case"] == case}
        real = _of(rows, case, "kd-real")
        for method in sorted(methods, key=lambda name: (name not in FIRST, name not in FIRST or FIRST.index(name), name)):
            here = _of(rows, case, method)
            last = [row["last"] for row in here]
            spread = f" ± {statistics.stdev(last):.2f}" if len(last) > 1 else ""
            share = statistics.mean(last) / statistics.mean(row["last"] for row in real) if real else None
            half = [row["second_half_mean"] for row in here if row["second_half_mean"] is not None]
            cells = [
                case,
                f"`{method}`",
                f"**{statistics.mean(last):.2f}**{spread} ({len(last)} seed{'s' * (len(last) > 1)})",
                f"{share:.2f}" if share else "",
                f"{statistics.mean(half):.2f}" if half else "",
                *(f"{statistics.mean(row['agreement'] for row in here):.2f}",),
                *(f"{statistics.mean(row[name] for row in here):,.0f}" for name in ("student_steps", "images", "cpu_s")),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def auto_choices_table(results: list[dict[str, Any]]) -> str:
    """One row for each change of what `auto` does, in the order of the last student; the file's command below."""
    tables = []
    for result in results:
        rows = result["auto_choices"]
        own = rows[0]["last"]
        lines = [
            "| what is changed | last student | against auto's own | second half of the run | student steps | images "
            "| CPU seconds |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in sorted(rows, key=lambda row: -row["last"]):
            cells = [
                row["choice"],
                f"**{row['last']:.2f}**",
                f"{row['last'] - own:+.2f}" if row is not rows[0] else "",
                f"{row['second_half_mean']:.2f}",
                *(f"{row[name]:,.0f}" for name in ("student_steps", "images", "cpu_s")),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        tables.append("\n".join(lines) + f"\n\n`{result['command']}`")
    return "\n\n".join(tables)


def _of(rows: list[dict[str, Any]], case: str, method: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["case"], row["method"]) == (case, method)]
