"""The table of commands, each loaded when it is called, and the handling of their failures."""

import contextlib
import os
import sys
from importlib import import_module

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from datafree import __version__
from datafree.core.shortages import explain_shortage
from datafree.core.terminal import show
from datafree.engine.interrupts import STOPPED, Terminated, terminable

HELP = """Distil a trained network into a smaller one without any training data.

teacher file -> [datafree distill] -> student file + a run folder with its record
"""
COMMANDS = {
    "demo": "Train a teacher, discard the data, distil a student: takes a minute.",
    "pack": "Make a network file of weights, an architecture and an input description.",
    "teach": "Train a teacher on labelled data.",
    "reproduce": "Run a paper's experiment, and compare the result with the paper's number.",
    "evaluate": "Accuracy of a network, and agreement with another.",
    "estimate": "How good a student is on real images, without a single one.",
    "inspect": "Show a network file or a transfer set.",
    "report": "Write the page of a finished run anew.",
    "compare": "Put runs side by side.",
    "students": "List smaller networks for a teacher, with their sizes.",
    "export": "Write a network as ONNX, pt2 or for ExecuTorch, also in int8.",
    "push": "Write a student as a folder of the Hugging Face Hub, or upload it.",
    "export-set": "Write a transfer set as an image folder, WebDataset shards or an .npz.",
}
# The flags of these depend on the recipe, so they are created when the command is called.
RECIPE_COMMANDS = {
    "distill": "Distil a teacher into a smaller student, without its data; the same command resumes.",
    "synthesize": "Make a transfer set from a teacher, without a student; the same command resumes.",
}

PARTNER_ENDED = "Another process of this run ended, so this one ends too; what the other one printed says why."  # by gloo
# What to lower where memory runs out.
LOWER = {
    "distill": "--plan.micro-batch, --plan.pool-size or batch of the method",
    "synthesize": "--batch or batch of the method",
    "teach": "--batch",
}
# Verbs that keep nothing to go on from, with what is too large where memory runs out.
SMALLER = {
    "inspect": "give a network of smaller --inputs (`datafree pack`), or a set of fewer images",
    "pack": "give smaller --inputs",
    "evaluate": "give fewer images, or a network of smaller --inputs",
    "estimate": "give networks of smaller --inputs",
    "students": "give a teacher of smaller --inputs",
    "export": "give fewer calibration images, or a network of smaller --inputs",
    "export-set": "give a set of fewer images",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command, and return the exit status. Expected failures print one sentence on standard error."""
    tokens = sys.argv[1:] if arguments is None else arguments
    # torchrun ends its processes by SIGTERM, also those that wait for another one, which no handler can interrupt.
    terminating = contextlib.nullcontext() if "RANK" in os.environ else terminable()
    try:
        with terminating:
            _announce(tokens)
            _app(tokens)(tokens, exit_on_error=False, print_error=False)
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        show(f"datafree: {str(error) or STOPPED}", error=True)
        return 143 if isinstance(error, Terminated) else 130
    except BrokenPipeError:  # as in `datafree inspect FILE | head`: the reader has ended, so nothing is printed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.dup2(nowhere, sys.stderr.fileno())
        return 141
    except (CycloptsError, ValueError, FloatingPointError, OSError, MemoryError, RuntimeError) as error:
        lost = PARTNER_ENDED if "gloo/transport" in str(error) and "RANK" in os.environ else None
        verb = tokens[0] if tokens else ""
        short = lost or explain_shortage(error, LOWER.get(verb, "number of images"), SMALLER.get(verb))
        if not short and isinstance(error, MemoryError | RuntimeError):
            raise  # unexpected
        show(f"datafree: {short or _sentence(error)}", error=True)
        return 2 if isinstance(error, CycloptsError) else 1
    return 0


def _app(tokens: list[str]) -> App:
    app = App(name="datafree", help=HELP, version=__version__, result_action="return_none", suppress_keyboard_interrupt=False)
    for name, text in RECIPE_COMMANDS.items():
        if tokens[:1] == [name]:
            module = import_module(f"datafree.cli.{name}")
            app.command(getattr(module, f"{name}_command")(tokens[1:]), name=name, help=text)
        else:
            app.command("datafree.cli.app:without_flags", name=name, help=text)
    for name, text in COMMANDS.items():
        module_name = name.replace("-", "_")
        app.command(f"datafree.cli.{module_name}:{module_name}", name=name, help=text)
    return app


def _announce(tokens: list[str]) -> None:
    """Print the name of a long command before torch is loaded, which takes seconds."""
    is_long = tokens[:1] and tokens[0] in ("distill", "synthesize", "teach") and not {"--help", "-h"} & {*tokens}
    if is_long and os.environ.get("RANK", "0") == "0":  # under torchrun only rank 0 prints
        show(f"datafree {__version__}: {tokens[0]}, loading torch", error=True)


def without_flags() -> None:
    """Takes the place of a recipe command in `datafree --help`, since its flags do not exist there."""


def _sentence(error: Exception) -> str:
    from pydantic import ValidationError

    from datafree.core.settings import explain

    # cyclopts wraps pydantic's error, which names the field; our own sentences about a file name both.
    cause = error.__cause__ if isinstance(error, CycloptsError) else error
    return explain(cause) if isinstance(cause, ValidationError) else str(error)
