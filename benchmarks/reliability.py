"""How reliable the library is: kills at any moment, and spoilt inputs of every kind; writes `results/reliability.json`.

    python benchmarks/reliability.py --jobs 2
    python benchmarks/reliability.py --only inputs --inputs 2000

The kills take hours, the inputs half an hour. With `--only` the other half of an earlier file is kept.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import reliability_inputs
import reliability_kills

from datafree.core.files import write_text
from datafree.core.runtime import Runtime
from datafree.reports import record

OUT = Path(__file__).parent / "results" / "reliability.json"
HALVES = ("kills", "inputs")


def cpu_seconds() -> float:
    """CPU time of this process and of all that it started, also through children that still live."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        # User and system time of the child, then those of its own children.
        times = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:15]
        seconds += sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
    return seconds


def measured(half: str, given: argparse.Namespace) -> dict[str, Any]:
    """The numbers of one half, with its time."""
    began, spent = time.monotonic(), cpu_seconds()
    if half == "kills":
        counts = reliability_kills.kills(given.kills, given.jobs)
    else:
        counts = reliability_inputs.inputs(given.inputs, given.jobs, given.seed)
    return {**counts, "wall_s": round(time.monotonic() - began), "cpu_s": round(cpu_seconds() - spent)}


def main() -> None:
    """Run the halves, and write the file after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=400, help="at random moments, beside those at every file operation")
    parser.add_argument("--inputs", type=int, default=2000, help="spoilt inputs")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the spoilt inputs")
    parser.add_argument("--only", choices=HALVES)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    result: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() and given.only else {}
    for half in [given.only] if given.only else HALVES:
        result[half] = measured(half, given)
        result |= {
            "command": f"python benchmarks/reliability.py --kills {given.kills} --inputs {given.inputs}",
            "machine": Runtime("cpu").machine(),
            "versions": record.versions(),
            "wall_s": sum(result[each]["wall_s"] for each in HALVES if each in result),
            "cpu_s": sum(result[each]["cpu_s"] for each in HALVES if each in result),
        }
        result |= {"seed": given.seed} if half == "inputs" else {}
        write_text(OUT, json.dumps(result, indent=2) + "\n")
        print(json.dumps(result[half]), flush=True)


if __name__ == "__main__":
    main()
