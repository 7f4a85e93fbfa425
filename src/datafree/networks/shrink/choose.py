"""Which smaller network is taken: of the teacher's family first, near the size and not above it, even in depth and width."""

import copy
import dataclasses
import math
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from datafree.core.modes import fastest_layout
from datafree.core.spec import Shape
from datafree.networks.building.limits import MAX_WEIGHTS
from datafree.networks.inside.cost import latency_ms, multiply_adds
from datafree.networks.network import Network
from datafree.networks.outputs import explained
from datafree.networks.saved.weights import parameters
from datafree.networks.shrink.candidates import Candidate, Search
from datafree.networks.shrink.families import Variant, variants_here
from datafree.networks.shrink.foreign import variants_elsewhere
from datafree.networks.shrink.pruning import prune
from datafree.networks.shrink.request import Request, parse_request

NEAR = 0.1  # share of the size asked for, by which a candidate may be below it and count as near
SHOWN = 8  # candidates of a list
STEPS = ("2x", "4x", "8x", "16x", "32x")  # sizes of the list where none is asked for
TIMED = 24  # candidates whose latency is measured for a request of a latency
TRIED = 6  # candidates of one request that may fail the check, before it is given up


@dataclass(frozen=True)
class Choice:
    """The candidates of a request, the first of which is taken, and why in one line."""

    candidates: list[Candidate]
    reason: str


class Chooser:
    """Answers requests for students of one teacher. Its sizes are kept, so that several requests find them once.

    Args:
        teacher: the teacher.
        resized_to: shape to which a student resizes its inputs inside; None: the teacher's.
        allow_code: packages whose code may be imported and called to build a student.
        say: is given a sentence before whatever takes seconds.
    """

    def __init__(
        self,
        teacher: Network,
        resized_to: Shape | None = None,
        allow_code: Collection[str] = (),
        say: Callable[[str], None] = lambda sentence: None,
    ):
        self.teacher, self.say = teacher, say
        self.search = Search(teacher.card, parameters(teacher.module) or MAX_WEIGHTS, resized_to, allow_code)
        self.variants = list(_unique(chain(variants_here(teacher.card), variants_elsewhere(teacher.card))))
        self._sized: dict[tuple[bool, bool], list[Candidate]] = {}

    def answer(self, request: Request, shown: int = 1) -> Choice:
        """At most `shown` candidates, all checked, the one to take first.

        Raises `ValueError`, with the nearest candidate, if none is as small as that.
        """
        request.refuse_unknown(parameters(self.teacher.module))
        if request.pruned:
            return self.pruned(request)
        search = dataclasses.replace(self.search, batch=request.batch)
        limit = request.limit(self._cost_of_teacher(request))
        cost = COSTS[request.kind]
        checked: list[Candidate] = []
        failures = 0
        candidates = self._of(request, search, limit, kin=True)
        if not any(cost(each) <= limit for each in candidates):
            candidates = [*candidates, *self._of(request, search, limit, kin=False)]
        for each in ranked(candidates, cost, limit):
            self.say(f"building, running and saving {each.name}")
            try:
                found = search.checked(each)
            except ValueError:
                failures += 1
                if failures > TRIED:
                    break
                continue
            checked += [found] if cost(found) <= limit else []
            if len(checked) == shown:
                break
        if not checked:
            raise ValueError(self._nothing(request, limit, candidates))
        return Choice(checked, self._reason(request, limit, checked[0], len(candidates)))

    def pruned(self, request: Request) -> Choice:
        """The teacher without the channels that are too many for `request`. Raises `ValueError` as `prune` does."""
        self.say(f"pruning the teacher for {request.text}")
        network = prune(self.teacher, request)
        bare = Candidate(network.card, True, 0.0, parameters(network.module), 0, request=request.text)
        found = self.search.checked(bare, network.module)
        return Choice([found], f"{request.text}: the teacher without some of its channels, which begins with its weights")

    def _of(self, request: Request, search: Search, limit: float, kin: bool) -> list[Candidate]:
        """The candidates of the teacher's family, or the others, of which the cost that `request` limits is known."""
        counted = request.kind in ("compute", "latency")
        if (kin, counted) not in self._sized:
            variants = [each for each in self.variants if each.kin is kin]
            self.say(f"finding the sizes of {len(variants)} architectures of {'its own family' if kin else 'others'}")
            sized = (self.search.sized(each, counted) for each in variants)
            self._sized[kin, counted] = [each for each in sized if each]
        found = self._sized[kin, counted]
        return _timed(found, search, limit) if request.kind == "latency" else found

    def _cost_of_teacher(self, request: Request) -> float:
        module, inputs = self.teacher.module, self.teacher.card.inputs
        if not parameters(module):
            return math.inf
        if request.kind == "compute":
            with explained("teacher", module, inputs):
                return multiply_adds(module, inputs)
        if request.kind == "latency":
            with explained("teacher", module, inputs):
                return latency_ms(fastest_layout(copy.deepcopy(module)), inputs, batch=request.batch)
        if request.kind == "file":
            return self.teacher.file_bytes
        return self.search.most

    def _nothing(self, request: Request, limit: float, candidates: list[Candidate]) -> str:
        cost = COSTS[request.kind]
        what = f"No smaller network for {self.teacher.card.architecture} has at most {request.amount(limit)} ({request.text})"
        if not candidates:
            return f"{what}, since none of its family, or smaller than it, is known here; name an architecture, --student NAME."
        nearest = min(candidates, key=cost)
        amount = request.amount(cost(nearest))
        return f"{what}; the nearest is {nearest.name} with {amount}: ask for more, or name an architecture."

    def _reason(self, request: Request, limit: float, taken: Candidate, seen: int) -> str:
        cost = COSTS[request.kind](taken)
        family = "the teacher's family" if taken.kin else "another family, as none of the teacher's is within it"
        near = cost >= (1 - NEAR) * limit
        even = near and "depth" in taken.card.options  # of other designs one number says all
        rule = f"the most even in depth and width within {100 * NEAR:.0f} % below" if even else "the closest from below"
        return (
            f"{taken.name} for {request.text}: {request.amount(cost)} of {request.amount(limit)}; {family}, {rule}, of {seen}"
        )


def _timed(candidates: list[Candidate], search: Search, limit: float) -> list[Candidate]:
    """Those of which the latency was measured: some of every size, and those whose multiply-adds are like the largest within
    `limit`.
    """
    order = sorted(candidates, key=lambda each: each.multiply_adds or 0)
    found: dict[int, Candidate] = {}

    def time(indices: Iterable[int]) -> None:
        for index in indices:
            if index not in found:
                with suppress(ValueError):  # one that fails is none
                    found[index] = search.timed(order[index])

    time(range(0, len(order), max(1, 2 * len(order) // TIMED)))
    largest = max((index for index, each in found.items() if (each.latency_ms or 0) <= limit), default=0)
    time(sorted(range(len(order)), key=lambda index: abs(index - largest))[: TIMED // 2])
    return list(found.values())


COSTS: dict[str, Callable[[Candidate], float]] = {
    "weights": lambda each: each.weights,
    "compute": lambda each: each.multiply_adds or 0,
    "latency": lambda each: each.latency_ms or 0.0,
    "file": lambda each: each.file_bytes,
}


def ranked(candidates: Iterable[Candidate], cost: Callable[[Candidate], float], limit: float) -> list[Candidate]:
    """Those within `limit`, the one to take first.

    The teacher's own family comes before others; then those of at least 1 - `NEAR` of the limit, by the imbalance of depth and
    width, then the others, the closest first. Equal ones go by their cost, the larger first.
    """

    def rank(each: Candidate) -> tuple[bool, bool, float, float]:
        near = cost(each) >= (1 - NEAR) * limit
        return not each.kin, not near, each.imbalance if near else 0.0, -cost(each)

    return sorted((each for each in candidates if cost(each) <= limit), key=rank)


def listed(
    teacher: Network,
    text: str | None = None,
    resized_to: Shape | None = None,
    allow_code: Collection[str] = (),
    say: Callable[[str], None] = lambda sentence: None,
) -> Choice:
    """Candidates for the request `text`, the one that is taken first, the pruned teacher last; without a request, one for each
    of `STEPS`.

    Raises `ValueError` for a text that is no request, and if no candidate is as small as that.
    """
    chooser = Chooser(teacher, resized_to, allow_code, say)
    if text is not None:
        request = parse_request(text)
        if request is None:
            raise ValueError(f"The size {text!r} is none; write 4x, 4x-compute, 5ms, 5ms@8 or 2MB.")
        choice = chooser.answer(request, SHOWN)
        return choice if request.pruned else Choice([*choice.candidates, *_also_pruned(chooser, request)], choice.reason)
    found: dict[str, Candidate] = {}
    for each in STEPS:
        request = parse_request(each)
        assert request
        try:
            for candidate in chooser.answer(request).candidates:
                found.setdefault(candidate.name, candidate)
        except ValueError as error:
            missing = error
    if not found:
        raise missing
    return Choice(
        list(found.values()), f"one for each of {', '.join(STEPS)} fewer weights than {teacher.card.architecture} has"
    )


def _also_pruned(chooser: Chooser, request: Request) -> list[Candidate]:
    """The pruned teacher that meets `request`, if there is one and torch-pruning is installed."""
    try:
        return chooser.pruned(dataclasses.replace(request, text=f"{request.text}-pruned", pruned=True)).candidates
    except ValueError:
        return []


def _unique(variants: Iterable[Variant]) -> Iterable[Variant]:
    seen = set()
    for each in variants:
        key = (each.architecture, *sorted(map(str, each.options.items())))
        if key not in seen:
            seen.add(key)
            yield each
