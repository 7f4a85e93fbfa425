"""The tables of docs/estimate.md."""

from typing import Any


def estimate_table(results: list[dict[str, Any]]) -> str:
    """What the estimate is worth in all, then one row for each case that was left out; the command below."""
    parts = []
    for found in results:
        whole = [
            ("teachers with their data, each left out once", f"{found['cases']}"),
            ("students, of runs", f"{found['students']}, {found['runs']}"),
            ("accuracy within its interval", f"**{100 * found['coverage']:.0f} %** of students"),
            ("agreement within its interval", f"{100 * found['coverage_agreement']:.0f} %"),
            ("median width of the interval of accuracy", f"{found['median_width']:.1f} points"),
            (
                "of students within 5 points of their teacher",
                f"**{found['median_width_good']:.1f} points**, {100 * found['coverage_good']:.0f} % within, "
                f"{found['students_good']} students",
            ),
            ("rank correlation of estimate and accuracy, all students", f"{found['rank_correlation']:.2f}"),
            ("within single runs, mean", f"{found['rank_within_runs']:.2f}"),
            (
                "a run's best moment is better than the one chosen by the estimate, than the last",
                f"by {found['regret_choice']:.2f} points, by {found['regret_last']:.2f}",
            ),
        ]
        lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in whole), ""]
        if found["refused"]:
            lines += [
                f"No interval, since probes are much harder for the teacher than real images: {', '.join(found['refused'])}.",
                "",
            ]
        lines += ["| left out | students | within | median width | median error of the estimate |", "|---|---|---|---|---|"]
        lines += [
            f"| {case} | {row['students']} | {100 * row['coverage']:.0f} % | {row['median_width']:.1f} | "
            f"{row['median_error']:+.1f} |"
            for case, row in found["each"].items()
        ]
        real = found["real"]
        lines += [
            "",
            f"Students that learnt from real images, {real['students']} of them, are estimated too low, by a median of "
            f"{real['median_points_too_low']:.0f} points.",
            "",
            f"`{found['command']}`",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
