"""How small a student is asked to be: `4x`, `4x-compute`, `5ms`, `5ms@8`, `2MB`."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["weights", "compute", "latency", "file"]
_SIZES = {"kB": 10**3, "KB": 10**3, "MB": 10**6, "KiB": 2**10, "MiB": 2**20}
_FORMS = "4x, 4x-compute, 5ms, 5ms@8 (at batch 8) or 2MB"
_PRUNED = "-pruned"
_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
MOST_BATCH = 4096


@dataclass(frozen=True)
class Request:
    """A limit of one kind of cost.

    Args:
        text: as the caller wrote it.
        kind: what is limited: weights, multiply-adds, latency (ms a batch, on this CPU) or the size of the file (bytes).
        value: the limit in these units, or with `relative` by how many times less than the teacher it is.
        relative: whether `value` is relative to the teacher.
        batch: inputs in a batch, for latency.
        pruned: whether the student is the teacher without some of its channels.
    """

    text: str
    kind: Kind
    value: float
    relative: bool = False
    batch: int = 1
    pruned: bool = False

    def limit(self, teacher: float) -> float:
        """The limit in its units, for a teacher of this cost. Raises `ValueError` if the teacher itself is within it."""
        limit = teacher / self.value if self.relative else self.value
        if teacher <= limit:
            raise ValueError(
                f"The teacher itself is within the size asked for, {self.text}: it has {self.amount(teacher)}; "
                "ask for a smaller student."
            )
        return limit

    def refuse_unknown(self, weights: int) -> None:
        """Raise `ValueError` if the size is relative to a teacher without `weights`: those of a black box are not known."""
        if (self.relative or self.pruned) and not weights:
            raise ValueError(
                f"The size {self.text} is relative to the teacher's, and the weights of a black box are not known; name an "
                "architecture, --student resnet20-half, or a size by itself, as 2MB or 5ms."
            )

    def amount(self, value: float) -> str:
        """`value` of this kind, for a person."""
        at = f" at batch {self.batch}" if self.batch > 1 else ""
        return {
            "weights": f"{value:,.0f} weights",
            "compute": f"{value:,.0f} multiply-adds",
            "latency": f"{value:.2f} ms{at}",
            "file": f"{value / 10**6:.3g} MB",
        }[self.kind]


def parse_request(text: str) -> Request | None:
    """The request in `text`, or None if it does not begin with a digit, as no architecture's name does.

    Raises `ValueError` for other text that begins with a digit.
    """
    text = text.strip()
    if not text[:1].isdigit():
        return None
    if text.endswith(_PRUNED) and (whole := parse_request(text.removesuffix(_PRUNED))):
        return dataclasses.replace(whole, text=text, pruned=True)
    if found := re.fullmatch(_NUMBER + r"x(-compute)?", text):
        request = Request(text, "compute" if found[2] else "weights", float(found[1]), relative=True)
        if request.value > 1:
            return request
    elif found := re.fullmatch(_NUMBER + r"ms(?:@(\d{1,5}))?", text):
        request = Request(text, "latency", float(found[1]), batch=int(found[2] or 1))
        if request.value > 0 and 0 < request.batch <= MOST_BATCH:
            return request
    elif found := re.fullmatch(_NUMBER + f"({'|'.join(_SIZES)})", text):
        request = Request(text, "file", float(found[1]) * _SIZES[found[2]])
        if request.value > 0:
            return request
    raise ValueError(f"The student {text!r} is no size of a smaller network; write {_FORMS}, or an architecture's name.")
