"""The command line: a table of commands, loaded when called, and one sentence for each failure."""

import errno
import sys

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from datafree import __version__

HELP = """Distil a trained network into a smaller one without any training data.

teacher file -> [datafree distill] -> student file + a run folder that says how it was made
"""
COMMANDS = {
    "demo": "Teach, throw the data away, distil: a student on screen in a minute.",
    "pack": "Make a network file of weights, an architecture and an input description.",
    "teach": "Train a teacher on labelled data.",
    "evaluate": "Accuracy of a network, and agreement with another.",
    "inspect": "Show a network file: card, weights, multiply-adds, size, latency here.",
}
DISTILL = "Teach a student what a teacher knows, without its data; the same line again resumes."


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Every foreseen failure ends in one sentence on standard error."""
    tokens = sys.argv[1:] if arguments is None else arguments
    try:
        _app(tokens)(tokens, exit_on_error=False, print_error=False)
    except KeyboardInterrupt as error:
        print(f"datafree: {error or 'stopped.'}", file=sys.stderr)
        return 130
    except (CycloptsError, ValueError, FloatingPointError, OSError) as error:
        print(f"datafree: {_sentence(error)}", file=sys.stderr)
        return 2 if isinstance(error, CycloptsError) else 1
    return 0


def _app(tokens: list[str]) -> App:
    app = App(name="datafree", help=HELP, version=__version__, result_action="return_none", suppress_keyboard_interrupt=False)
    if tokens[:1] == ["distill"]:
        from datafree.commands.distill import distill_command  # its flags depend on the recipe, so they are made when asked for

        app.command(distill_command(tokens[1:]), name="distill", help=DISTILL)
    else:
        app.command("datafree.commands.distill:without_flags", name="distill", help=DISTILL)
    for name, text in COMMANDS.items():
        app.command(f"datafree.commands.{name}:{name}", name=name, help=text)
    return app


def _sentence(error: Exception) -> str:
    from pydantic import ValidationError

    from datafree.settings import explain

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full ({error}); free some space and give the same line again."
    # cyclopts wraps what pydantic says; the cause names the field.
    cause = error if isinstance(error, ValidationError) else error.__cause__
    return explain(cause) if isinstance(cause, ValidationError) else str(error)


if __name__ == "__main__":
    sys.exit(main())
