"""The table of docs/students.md."""

from typing import Any


def student_table(results: list[dict[str, Any]]) -> str:
    """One row for each student of one teacher, and the command below."""
    parts = []
    for found in results:
        teacher = found["teacher"]
        lines = [
            "| --student | taken | weights | multiply-adds | last student | agrees with its teacher | CPU seconds |",
            "|---|---|---|---|---|---|---|",
            f"| the teacher | {teacher['architecture']} | {teacher['weights']:,} | {teacher['multiply_adds']:,} | "
            f"{teacher['accuracy']:.2f} | | |",
        ]
        lines += [
            f"| `{row['student']}` | {row['architecture']} | {row['weights']:,} | {row['multiply_adds']:,} | "
            f"**{row['last']:.2f}** | {row['agreement']:.2f} | {row['cpu_s']:.0f} |"
            for row in found["rows"]
        ]
        rules = [f"`{row['student']}`: {row['rule']}." for row in found["rows"] if row["rule"] != "named by hand"]
        parts.append("\n".join([*lines, "", *rules, "", f"`{found['command']}`"]))
    return "\n\n".join(parts)
