"""The table of docs/reliability.md."""

from typing import Any


def reliability_table(results: list[dict[str, Any]]) -> str:
    """One row for the kills, one for the spoilt inputs; the file's command below."""
    parts = []
    for result in results:
        kills, inputs = result["kills"], result["inputs"]
        lines = [
            "| tried | how many | what went wrong |",
            "|---|---|---|",
            f"| kills at random moments | {kills['random']:,} | {_wrong(kills, ('differing', 'refused', 'leftovers'))} |",
            f"| kills at file operations | {kills['at_operations']:,} | as above, of both |",
            f"| spoilt inputs | {inputs['tried']:,} | {_wrong(inputs, ('tracebacks', 'hangs', 'over_memory', 'code_run'))} |",
        ]
        parts.append("\n".join(lines) + f"\n\n`{result['command']}` ({result['cpu_s'] / 3600:.1f} CPU hours)")
    return "\n\n".join(parts)


def _wrong(counts: dict[str, int], kinds: tuple[str, ...]) -> str:
    return ", ".join(f"{counts[kind]} {kind.replace('_', ' ')}" for kind in kinds)
