"""A method's work before its first input, done in slices, so that a kill loses at most about a minute of it."""

import contextlib
import time
from collections.abc import Callable, Mapping

from datafree.core.distributed import any_rank
from datafree.core.runtime import Runtime
from datafree.core.state import Stateful
from datafree.engine.alarm import refuse_non_finite
from datafree.engine.folder import RunDir
from datafree.engine.interrupts import Interrupted, stoppable
from datafree.engine.log import RunLog, read_rows
from datafree.engine.method import Synthesizer

PREPARATION = "preparation.csv"  # log of the preparation, in the run's folder


def prepare(
    synthesizer: Synthesizer,
    runtime: Runtime,
    run: RunDir,
    parts: Mapping[str, Stateful],
    quiet: bool,
    seconds: Callable[[], Mapping[str, float]] = dict,
    slices: int | None = None,
) -> None:
    """Do the remaining slices, at most `slices` if given, log them in `preparation.csv`, and save `parts` for round 0.

    Raises `Interrupted` after saving if asked to stop, `FloatingPointError` if a logged value is not finite, and
    `ValueError` if the run's log is no log.
    """
    done, total = synthesizer.preparation()
    total = total if slices is None else min(total, done + slices)
    if done == total:
        return
    read_rows(run.log)  # so that a file in its place is refused before the work, not after it
    log = RunLog(run.path / PREPARATION, total, done, quiet, unit="slice")
    began = time.monotonic(), time.process_time()
    with stoppable() as stop, contextlib.closing(log):
        while done < total:
            synthesizer.prepare()
            done += 1
            values = runtime.drain()
            refuse_non_finite(values, done)
            log.write(done, values | {"wall_s": time.monotonic() - began[0], "cpu_s": time.process_time() - began[1]})
            due, stopping = any_rank(run.due, stop.is_set())
            if done == total or stopping or due:
                run.save(0, seconds(), parts)
            if stopping:
                raise Interrupted(f"Stopped before the first round, saved in {run.path}; the same command resumes.")
