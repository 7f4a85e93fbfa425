"""Every method, the same claims. A method that is listed in METHODS and has no example here fails."""

import copy
import csv
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers import INPUTS, TINY, network, stored_images
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from datafree import (
    CMI,
    CSD,
    DAFL,
    DDA,
    DFAD,
    DFQ,
    NAYER,
    STTSS,
    ZSKT,
    Augmentation,
    Blend,
    DeepInversion,
    Fast,
    Network,
    Plan,
    Procedural,
    Recipe,
    Stored,
    distill,
)
from datafree.core.runtime import Runtime
from datafree.core.state import Stateful
from datafree.engine import loop
from datafree.engine.folder import RunDir
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods import METHODS
from datafree.methods.common.diffusion import embedded
from datafree.methods.common.diffusion.diffuser import Diffusion
from datafree.networks.teacher import Teacher

PLAN = Plan(rounds=6, steps=2, batch=8, lr=0.05, save_every=2, log_every=1, eval_every=0, grid_every=0, ema_decay=0.5)


Unbroken = Callable[[int], tuple[dict[str, Tensor], Path]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(params=METHODS, scope="module")
def method(request: pytest.FixtureRequest, images: Path) -> Method:
    examples: dict[str, Method] = {
        "blend": Blend(host=DFAD(latent={"size": 8, "width": 8}, batch=8), share=0.5, procedural={"batch": 3}),
        "cmi": CMI(
            inversion={"steps": 2, "batch": 5},
            latent={"size": 8, "width": 8},
            memory_size=12,
            negatives=6,
            views=Augmentation(crop=1),
        ),
        "csd": CSD(
            warmup_images=0,
            inversion={"steps": 4, "batch": 5, "lr": 0.02},
            latent={"size": 8, "width": 8},
            views=Augmentation(crop=1),
        ),
        "dafl": DAFL(latent={"size": 8, "width": 8}, batch=8),
        "dda": DDA(
            host=DeepInversion(inversion={"steps": 2, "batch": 5}),
            bank=11,
            batch=5,
            variations=2,
            diffusion=Diffusion(updates=7, batch=4, width=8, steps=2),
            omega=0.0,
            look={"augment": Augmentation(crop=1)},
        ),
        "deepinversion": DeepInversion(inversion={"steps": 4, "lr": 0.05, "batch": 5}, roll=1),
        "dfad": DFAD(latent={"size": 8, "width": 8}, batch=8),
        "dfq": DFQ(latent={"size": 8, "width": 8}, batch=8),
        "fast": Fast(
            inversion={"steps": 3, "batch": 5},
            latent={"size": 8, "width": 8},
            reset_first_layer_at=0.5,
            views=Augmentation(crop=1),
        ),
        "nayer": NAYER(
            inversion={"steps": 3, "batch": 12},
            latent={"size": 8, "width": 8},
            generator_life=2,
            views=Augmentation(crop=1),
        ),
        "procedural": Procedural(supply={"batch": 5, "candidates": 3}),
        "stored": Stored(path=images, look={"augment": Augmentation(crop=1, flip=True, jitter=0.1)}),
        "sttss": STTSS(inversion={"steps": 4, "lr": 0.05, "batch": 5}),
        "zskt": ZSKT(latent={"size": 8, "width": 8}, batch=8, reuses=2),
    }
    return examples[request.param]


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A diffusion model of seven updates is trained in two slices too."""
    monkeypatch.setattr(embedded, "SLICE", 4)


@pytest.fixture(scope="module")
def unbroken(method: Method, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """The student of a run that nothing happened to, and its folder, by the size of its pool; each is made once."""

    @cache
    def run(pool_size: int) -> tuple[dict[str, Tensor], Path]:
        out = tmp_path_factory.mktemp("unbroken")
        return taught(method, out / "run", pool_size=pool_size), out / "run"

    return run


def started(method: Method, student: nn.Module, seed: int = 0) -> tuple[Problem, Synthesizer]:
    runtime = Runtime("cpu", seed=seed)
    with runtime.seeded():
        problem = Problem(Teacher(network(seed=1).module, INPUTS, runtime), student.train(), INPUTS, 10)
        return problem, method.start(problem, runtime)


def taught(method: Method, out: Path | None = None, seed: int = 0, **changes: object) -> dict[str, Tensor]:
    recipe = Recipe(method, PLAN.model_copy(update=changes), "test")
    return distill(network(seed=1), TINY, recipe=recipe, out=out, seed=seed, device="cpu", quiet=True).state_dict()


def same(one: object, other: object) -> bool:
    """Whether both hold the same, tensors to the bit, in dicts, lists and tuples however deep."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(
    "other",
    [
        {"a": [torch.tensor([1.0, 2.0]), (3, "x")]},
        {"a": [torch.tensor([1.0, 2.0]), (3, torch.zeros(4) + 1e-7)], "b": None},
        {"a": [torch.tensor([1.0, 2.0]), (3, torch.zeros(4, dtype=torch.float64))], "b": None},
        {"a": [torch.tensor([1.0, 2.0]), (3, torch.zeros(2, 2))], "b": None},
        {"a": [torch.tensor([1.0, 2.0]), [3, torch.zeros(4)]], "b": None},
        {"a": [torch.tensor([1.0, 2.0]), (4, torch.zeros(4))], "b": None},
        {"a": [torch.tensor([1.0, 2.0])], "b": None},
        {"b": None, "a": [torch.tensor([1.0, 2.0]), (3, torch.zeros(4))]},
    ],
)
def test_same_sees_a_difference_however_deep(other: object) -> None:
    def one() -> object:
        return {"a": [torch.tensor([1.0, 2.0]), (3, torch.zeros(4))], "b": None}

    assert same(one(), one())
    assert not same(one(), other)


def test_inputs_are_detached_finite_and_right_shaped(method: Method) -> None:
    _, synthesizer = started(method, network(seed=2).module)
    for n in (8, 19):
        x = synthesizer.synthesize(n).x
        assert x.shape == (n, *INPUTS.shape)
        assert x.dtype == torch.float32
        assert x.isfinite().all()
        assert not x.requires_grad


def test_inputs_change_from_round_to_round(method: Method) -> None:
    _, synthesizer = started(method, network(seed=2).module)
    assert not torch.equal(synthesizer.synthesize(8).x, synthesizer.synthesize(8).x)


def test_loss_reaches_every_weight_of_the_student_and_none_of_the_teacher(method: Method) -> None:
    problem, synthesizer = started(method, network(seed=2).module)
    problem.student.zero_grad()
    synthesizer.loss(problem.student, synthesizer.synthesize(8)).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in problem.student.parameters())
    assert all(weight.grad is None for weight in problem.teacher.parameters())


def test_loss_of_a_student_that_is_the_teacher_is_nil(method: Method) -> None:
    # Terms that compare with something else than the teacher's answer.
    others = {"cross_entropy": 0, "features": 0}
    alone = method.replaced(**{name: weight for name, weight in others.items() if name in type(method).model_fields})
    problem, synthesizer = started(alone, network(seed=2).module)
    batch = synthesizer.synthesize(8)
    own = synthesizer.loss(problem.student, batch).item()
    assert own > 1e-4
    # Not nil to the bit: the squared temperature (400 for sttss) multiplies the rounding of equal logits.
    assert abs(synthesizer.loss(network(seed=1).module, batch).item()) < 1e-3 * own


MAKERS = (
    *(torch.arange, torch.zeros, torch.ones, torch.empty, torch.full, torch.eye, torch.linspace, torch.tensor, torch.as_tensor),
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.fft.fftfreq, torch.fft.rfftfreq),
)
WAITS = (
    Tensor.item,
    Tensor.tolist,
    Tensor.cpu,
    Tensor.numpy,
    Tensor.nonzero,
    Tensor.__bool__,
    Tensor.__float__,
    Tensor.__int__,
)


class Watch(TorchFunctionMode):
    """Notes the lines of ours that make a tensor without saying on which device, and those that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.placeless: list[str] = []
        self.waiting: list[str] = []

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs, caller = kwargs or {}, sys._getframe(1)
        if str(caller.f_globals.get("__name__")).startswith("datafree."):
            where = f"{caller.f_globals['__name__']}:{caller.f_lineno} {func.__name__}"
            if func in MAKERS and kwargs.get("device") is None:
                self.placeless.append(where)
            if func in WAITS:
                self.waiting.append(where)
        return func(*args, **kwargs)


def test_a_round_makes_its_tensors_where_it_computes_and_a_students_step_never_waits(method: Method) -> None:
    """What a GPU would trip over or stand still for, seen without one."""
    problem, synthesizer = started(method, network(seed=2).module)
    with Watch() as watch:
        synthesizer.prepare()
        batch = synthesizer.synthesize(8)
    assert not watch.placeless
    with Watch() as watch:
        synthesizer.loss(problem.student, batch).backward()
    assert not watch.placeless
    assert not watch.waiting


def test_the_watch_sees_what_it_is_there_for() -> None:
    ours = {"__name__": "datafree.example", "torch": torch}
    with Watch() as watch:
        exec("torch.arange(3); torch.arange(3, device='cpu')[0].item(); torch.zeros(1) > 0 or None", ours)
    assert [line.rpartition(" ")[2] for line in watch.placeless] == ["arange", "zeros"]
    assert [line.rpartition(" ")[2] for line in watch.waiting] == ["item", "__bool__"]


def test_adversarial_inputs_depend_on_the_student_and_others_do_not(method: Method) -> None:
    one, other = (started(method, network(seed=seed).module)[1] for seed in (2, 3))
    assert torch.equal(one.synthesize(8).x, other.synthesize(8).x) != method.adversarial


def test_student_trains_in_synthesis_without_collecting_gradients(method: Method) -> None:
    problem, synthesizer = started(method, network(seed=2).module)
    synthesizer.synthesize(8)
    assert all(weight.requires_grad and weight.grad is None for weight in problem.student.parameters())
    assert problem.student.training


def test_teacher_is_untouched(method: Method) -> None:
    module = network(seed=1).module
    layers = list(module.modules())
    layers[1].train()  # a mixed mode and a frozen weight, to be found again as they were
    next(module.parameters()).requires_grad_(False)
    layers[2].register_forward_hook(lambda *_: None)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    seen = [(layer.training, len(layer._forward_hooks), len(layer._forward_pre_hooks)) for layer in layers]
    flags = [weight.requires_grad for weight in module.parameters()]
    distill(module, TINY, inputs=INPUTS, recipe=Recipe(method, PLAN, "test"), quiet=True, device="cpu")
    assert same(before, module.state_dict())
    assert seen == [(layer.training, len(layer._forward_hooks), len(layer._forward_pre_hooks)) for layer in layers]
    assert flags == [weight.requires_grad for weight in module.parameters()]
    assert all(weight.grad is None for weight in module.parameters())


def test_a_restart_begins_anew_or_says_that_there_is_nothing_to(method: Method) -> None:
    _, synthesizer = started(method, network(seed=2).module)
    synthesizer.prepare()
    synthesizer.synthesize(8)
    before = {name: copy.deepcopy(part.state_dict()) for name, part in synthesizer.state().items()}
    changed = synthesizer.restart()
    after = {name: part.state_dict() for name, part in synthesizer.state().items()}
    assert changed == (not same(before, after))
    assert synthesizer.synthesize(8).x.isfinite().all()


def test_student_changes_and_same_seed_gives_same_student_and_callers_random_numbers_are_left_alone(
    method: Method, unbroken: Unbroken
) -> None:
    first, _ = unbroken(0)
    assert not same(network(seed=0).module.state_dict(), first)
    before = torch.get_rng_state()
    assert same(first, taught(method))
    assert torch.equal(before, torch.get_rng_state())
    assert not same(first, taught(method, seed=1))


@pytest.mark.parametrize("pool_size", [0, 24])
def test_resume_is_bitwise(
    method: Method, unbroken: Unbroken, pool_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = unbroken(pool_size)
    write = loop.RunLog.write
    for deadly in (1, 3, 5):  # before the first checkpoint, and between later ones

        def die(log: loop.RunLog, round_: int, values: dict[str, float], deadly: int = deadly) -> None:
            if round_ == deadly:
                raise MemoryError("killed")
            write(log, round_, values)

        monkeypatch.setattr(loop.RunLog, "write", die)
        with pytest.raises(MemoryError):
            taught(method, tmp_path / "broken", pool_size=pool_size)
    monkeypatch.setattr(loop.RunLog, "write", write)
    assert same(whole, taught(method, tmp_path / "broken", pool_size=pool_size))
    logs = []
    for path in (folder, tmp_path / "broken"):
        rows = csv.DictReader((path / "log.csv").read_text().splitlines())
        logs.append([{key: value for key, value in row.items() if key not in ("wall_s", "cpu_s")} for row in rows])
    assert len(logs[0]) == PLAN.rounds
    assert logs[0] == logs[1]


STATELESS = {"deepinversion", "sttss"}  # methods whose images depend on their random numbers and the networks, no more


def at_work(method: Method) -> Synthesizer:
    """After two rounds in which student and method learned, and with a slice of the preparation left."""
    problem, synthesizer = started(method, network(seed=2).module)
    weights = [*problem.student.parameters(), *synthesizer.student_parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.05)
    while synthesizer.preparation()[0] < synthesizer.preparation()[1] - 1:
        synthesizer.prepare()
    synthesizer.at(0.6)  # what happens once in a run, half way, has happened
    for n in (8, 15):
        synthesizer.runtime.minimize(synthesizer.loss(problem.student, synthesizer.synthesize(n)), optimizer)
    return synthesizer


def goes_on(synthesizer: Synthesizer) -> list[object]:
    """What a synthesizer does next: the rest of its preparation, then images, targets, losses and pictures of three rounds."""
    while synthesizer.preparation()[0] < synthesizer.preparation()[1]:
        synthesizer.prepare()
    seen: list[object] = []
    synthesizer.at(0.7)
    for n in (8, 15, 8):
        batch = synthesizer.synthesize(n)
        seen += [batch.x, batch.y, synthesizer.loss(synthesizer.problem.student, batch).detach(), synthesizer.pictures()]
    return seen


def tensors_of(state: object) -> list[Tensor]:
    """All tensors in nested mappings and sequences."""
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [state] if isinstance(state, Tensor) else [tensor for part in parts for tensor in tensors_of(part)]


def test_every_part_of_the_state_is_saved_and_matters(method: Method, tmp_path: Path) -> None:
    # Where the first images are made in another way, the state has to know that they were.
    first = {"warmup_images": 8, "warmup_steps": 1}
    method = method.replaced(**{name: value for name, value in first.items() if name in type(method).model_fields})

    def everything(synthesizer: Synthesizer) -> dict[str, Stateful]:
        return synthesizer.state() | {"runtime": synthesizer.runtime, "student": synthesizer.problem.student}

    with torch.random.fork_rng(), RunDir(tmp_path / "run", {"test": True}) as folder:
        worked = at_work(method)
        folder.save(1, {}, everything(worked))
        # A file of a view holds all that the view is of.
        whole = tensors_of(torch.load(folder.path / "checkpoint.pt", weights_only=True))
        assert all(each.untyped_storage().nbytes() == each.nbytes for each in whole)
        saved = copy.deepcopy({name: part.state_dict() for name, part in everything(worked).items()})
        expected = goes_on(worked)

        def resumed(without: str = "") -> Synthesizer:
            _, fresh = started(method, network(seed=3).module, seed=5)
            assert folder.restore({name: part for name, part in everything(fresh).items() if name != without})[0] == 1
            return fresh

        assert same({name: part.state_dict() for name, part in everything(resumed()).items()}, saved)
        assert same(goes_on(resumed()), expected), "something is not in the state"
        assert bool(worked.state()) == (method.name not in STATELESS)
        for name in worked.state():
            assert not same(goes_on(resumed(without=name)), expected), f"{name} need not be saved"


def test_refuses_a_task_that_it_does_not_serve_in_words(method: Method) -> None:
    runtime = Runtime("cpu")
    problem = Problem(Teacher(network(seed=1).module, INPUTS, runtime), network(seed=2).module, INPUTS, 10, task="detection")
    with pytest.raises(ValueError, match=r"supports classification.*, not detection; use dfad"):
        method.start(problem, runtime)


def test_refuses_inputs_that_do_not_fit_in_words(method: Method) -> None:
    teacher: Network = network(seed=1)
    recipe = Recipe(method, PLAN, "test")
    with pytest.raises(ValueError, match="teacher refuses inputs of 3x8x8"):
        distill(teacher, TINY, inputs=INPUTS.model_copy(update={"shape": (3, 8, 8)}), recipe=recipe, quiet=True)
