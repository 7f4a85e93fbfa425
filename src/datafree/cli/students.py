"""The command `datafree students`."""

import json
from pathlib import Path

import datafree
from datafree.cli.arguments import AsJson, Packages, shape_of
from datafree.core.terminal import show

_HEADS = ("--student", "weights", "multiply-adds", "ms here", "MB")


def students(
    teacher: Path,
    *,
    student: str | None = None,
    student_inputs: str | None = None,
    allow_code: Packages = (),
    as_json: AsJson = False,
) -> None:
    """List smaller networks for a teacher, with their weights, multiply-adds, latency on this CPU and size of the file.

    Each was built, run, saved and loaded again; distill takes any of them by its name, and the first one by its size.

    Args:
        teacher: A network file; make one with datafree pack or datafree teach.
        student: Size asked for: 4x, 4x-compute, 5ms, 5ms@8, 2MB; left out: one for each of several sizes.
        student_inputs: CHANNELSxHEIGHTxWIDTH to which the student resizes the teacher's inputs inside; left out: it does not.
        allow_code: Packages whose code may be imported and called to build the teacher and the students.
        as_json: Print JSON, one object a student.
    """
    resized_to = shape_of(student_inputs, "--student-inputs") if student_inputs else None
    found = datafree.students(teacher, student, student_inputs=resized_to, allow_code=allow_code)
    if as_json:
        wanted = ("name", "weights", "multiply_adds", "latency_ms", "file_bytes")
        show(json.dumps([{name: getattr(each, name) for name in wanted} for each in found]))
        return
    rows = [
        (each.name, f"{each.weights:,}", f"{each.multiply_adds:,}", f"{each.latency_ms:.2f}", f"{each.file_bytes / 10**6:.3g}")
        for each in found
    ]
    widths = [max(len(row[i]) for row in (_HEADS, *rows)) for i in range(len(_HEADS))]
    for name, *numbers in (_HEADS, *rows):
        show("  ".join([name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))]))
