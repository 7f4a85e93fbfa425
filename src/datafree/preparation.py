"""The work that comes before a method's first input, slice by slice, so that a kill costs a minute of it."""

import contextlib
import time
from collections.abc import Callable, Mapping

from datafree.method import Synthesizer
from datafree.ranks import any_rank
from datafree.rundir import RunDir, refuse_non_finite
from datafree.runlog import RunLog
from datafree.runtime import Runtime
from datafree.state import Stateful
from datafree.stopping import Interrupted, stoppable

SAVE_EVERY = 60.0  # seconds


def prepare(
    synthesizer: Synthesizer,
    runtime: Runtime,
    run: RunDir,
    parts: Mapping[str, Stateful],
    quiet: bool,
    seconds: Callable[[], Mapping[str, float]] = dict,
) -> None:
    """Do what is left of it, log it in `preparation.csv`, and save `parts` as of before round 0, at least at the end.

    Raises `Interrupted` after saving when asked to stop, and `FloatingPointError` where what was noted is not finite.
    """
    done, total = synthesizer.preparation()
    if done == total:
        return
    log, saved = RunLog(run.path / "preparation.csv", total, done, quiet, unit="slice"), time.monotonic()
    with stoppable() as stop, contextlib.closing(log):
        while done < total:
            synthesizer.prepare()
            done += 1
            values = runtime.drain()
            refuse_non_finite(values, done)
            log.write(done, values)
            due, stopping = any_rank(time.monotonic() - saved > SAVE_EVERY, stop.is_set())
            if done == total or stopping or due:
                run.save(0, seconds(), parts)
                saved = time.monotonic()
            if stopping:
                raise Interrupted(f"Stopped before the first image, saved in {run.path}; the same line resumes.")
