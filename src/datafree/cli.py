"""The command line: a table of commands, loaded when called, and one sentence for each failure."""

import errno
import os
import sys
from importlib import import_module

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
    "reproduce": "Run a paper's experiment, and put our number beside its own.",
    "evaluate": "Accuracy of a network, and agreement with another.",
    "inspect": "Show a network file or a transfer set.",
    "export-set": "Write a transfer set as an image folder, WebDataset shards or an .npz.",
}
# The flags of these depend on the recipe, so they are made when the command is called.
MADE = {
    "distill": "Teach a student what a teacher knows, without its data; the same line again resumes.",
    "synthesize": "Make a transfer set from a teacher alone; the same line again resumes.",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Every foreseen failure ends in one sentence on standard error."""
    tokens = sys.argv[1:] if arguments is None else arguments
    try:
        _app(tokens)(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        print(f"datafree: {error or 'stopped.'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in `datafree inspect FILE | head`: whoever read along has gone, and needs no sentence
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.dup2(nowhere, sys.stderr.fileno())
        return 141
    except (CycloptsError, ValueError, FloatingPointError, OSError) as error:
        print(f"datafree: {_sentence(error)}", file=sys.stderr)
        return 2 if isinstance(error, CycloptsError) else 1
    return 0


def _app(tokens: list[str]) -> App:
    app = App(name="datafree", help=HELP, version=__version__, result_action="return_none", suppress_keyboard_interrupt=False)
    for name, text in MADE.items():
        if tokens[:1] == [name]:
            module = import_module(f"datafree.commands.{name}")
            app.command(getattr(module, f"{name}_command")(tokens[1:]), name=name, help=text)
        else:
            app.command(f"datafree.commands.{name}:without_flags", name=name, help=text)
    for name, text in COMMANDS.items():
        module_name = name.replace("-", "_")
        app.command(f"datafree.commands.{module_name}:{module_name}", name=name, help=text)
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
