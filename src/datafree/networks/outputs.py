"""What a network returns for an image or for each pixel: logits, or what can be taken for them; the class axis is dim 1."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating, frozen, keeping_random
from datafree.core.shortages import is_out_of_memory
from datafree.core.spec import InputSpec
from datafree.networks.building.limits import FOREIGN, reason_of
from datafree.networks.inside.taps import first_non_finite

TASKS = {2: "classification", 4: "segmentation"}  # by the number of dims of the logits: [B, classes], [B, classes, H, W]
_LOGITS = ("out", "logits")  # key of the logits in an output that is a mapping: torchvision's, transformers'
TELLING = 4  # images of noise, as many a hundred times as strong, and two flat ones, by which the kind of outputs is known
ALIKE = 1e-3  # share of the largest answer by which an image's may differ beside other images: rounding is far smaller
LARGE = 2**19  # values of an input, beyond which one image of noise must do: 3x416x416 is less


def logits_of(output: object) -> object:
    """The logits in an output that is a mapping, has attributes, or is a tuple or list; any other output unchanged.

    That is the entry or attribute `out` or `logits`, else the first tensor that can be logits: auxiliary ones follow. Those of
    a convolutional head, [B, classes, 1, 1], become [B, classes].
    """
    output = _taken(output)[0]
    if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2:] == (1, 1):
        return output.flatten(1)
    return output


def taken_of(output: object) -> str:
    """What `logits_of` takes, as `item 0 of a tuple of 2`; empty if the output is a tensor."""
    return _taken(output)[1]


def taken_from(network: nn.Module, inputs: InputSpec) -> str:
    """What is taken of the outputs of `network`, as `taken_of` says it. Raises `ValueError` if it fails."""
    with explained("network", network, inputs), torch.no_grad(), evaluating(network):
        return taken_of(network(_few(network, inputs)[:1]))


def _taken(output: object) -> tuple[object, str]:
    if isinstance(output, Tensor):
        return output, ""
    kind = type(output).__name__
    if isinstance(output, Mapping):
        for name in (*_LOGITS, *output):
            if _fits(output.get(name)):
                return output[name], f"entry {name!r} of a {kind}"
    for name in _LOGITS:
        if _fits(found := getattr(output, name, None)):
            return found, f"attribute {name!r} of a {kind}"
    if isinstance(output, tuple | list):
        for index, each in enumerate(output):
            if _fits(each):
                return each, f"item {index} of a {kind} of {len(output)}"
    return output, ""


def _fits(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() in TASKS and value.shape[1] > 1


@contextmanager
def logits_only(network: nn.Module) -> Iterator[None]:
    """Inside, `network` returns only the logits, as `logits_of` finds them."""
    with network.register_forward_hook(lambda network, inputs, output: logits_of(output)):
        yield


class Refused(ValueError):
    """A network failed; the message is the sentence for the person."""


def refusal(name: str, network: nn.Module, inputs: InputSpec, error: BaseException) -> BaseException:
    """What to raise instead of `error`, which the network `name` raised for `inputs`: a sentence that says what to do.

    That is `error` itself if it is such a sentence, or a shortage of memory, which is explained where all shortages are.
    """
    if isinstance(error, Refused) or is_out_of_memory(error):
        return error
    types = {weight.dtype for weight in network.state_dict().values() if weight.is_floating_point()} - {torch.float32}
    if types:
        found = ", ".join(sorted(str(each).removeprefix("torch.") for each in types))
        return Refused(
            f"The {name} has {found} weights and refuses float32 inputs ({reason_of(error)}); convert it with .float()."
        )
    return Refused(
        f"The {name} refuses inputs of {inputs}: {reason_of(error)}. Pass the shape that it was made for, and a network "
        "that takes one tensor, of any number of images."
    )


@contextmanager
def explained(name: str, network: nn.Module, inputs: InputSpec) -> Iterator[None]:
    """Inside, whatever a foreign network raises for `inputs` becomes `ValueError`: one sentence with `name`, and what to do."""
    try:
        yield
    except FOREIGN as error:  # a network is code of others, which may raise anything
        instead = refusal(name, network, inputs, error)
        raise instead from (error.__cause__ if instead is error else error)


def probe(name: str, network: nn.Module, inputs: InputSpec) -> Tensor:
    """Logits of `network` for two inputs of noise, one if they are large: [2, classes] or [2, classes, H, W].

    Its modes are restored.

    Raises `ValueError`, with `name`, if the network fails on inputs of this shape or does not return logits of two classes or
    more.
    """
    with explained(name, network, inputs), torch.no_grad(), evaluating(network), logits_only(network):
        x = _few(network, inputs)
        logits = network(x)
    if not isinstance(logits, Tensor) or logits.dim() not in TASKS or len(logits) != len(x) or not logits.is_floating_point():
        seen = type(logits).__name__
        if isinstance(logits, Tensor):
            seen = f"{logits.dtype} {list(logits.shape)}".removeprefix("torch.float32 ")
        raise ValueError(
            f"The {name} returns {seen} for {'two inputs' if len(x) == 2 else 'one input'}, not [{len(x)}, classes] or "
            f"[{len(x)}, classes, height, width]; give a network that returns logits."
        )
    if logits.shape[1] < 2:
        raise ValueError(
            f"The {name} returns {logits.shape[1]} logit for each input, as of a sigmoid that tells two classes apart; wrap it "
            "so that it returns two: torch.cat([torch.zeros_like(z), z], 1)."
        )
    return logits


def refuse_bound(network: nn.Module, inputs: InputSpec, name: str) -> None:
    """Raise `ValueError`, with `name`, if an image's answer depends on which images are beside it."""
    with explained("network", network, inputs), torch.no_grad(), evaluating(network):
        x = torch.cat([noise_for(network, inputs), noise_for(network, inputs).flip(3)])[: 2 if inputs.values > LARGE else 3]
        together, apart = (flattened(network(part)) for part in (x, x[:1]))
    if not bool(apart.isfinite().all()):  # which is refused where answers are looked at
        return
    if not torch.allclose(together[: len(apart)], apart, rtol=0, atol=ALIKE * float(apart.abs().max())):
        raise ValueError(
            f"The {name} was exported for one number of images, and answers otherwise to others; export it with a batch of any "
            "size, torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim('batch')},))."
        )


def refuse_broken(name: str, network: nn.Module, inputs: InputSpec, logits: Tensor) -> None:
    """Raise `ValueError`, with `name` and the first layer at fault, if `logits`, for noise, hold a NaN or an infinity."""
    if found := describe_broken(network, inputs, logits):
        raise ValueError(f"The {name}'s {found}; check its weights, mean and std.")


def describe_broken(network: nn.Module, inputs: InputSpec, logits: Tensor) -> str:
    """Where `logits`, for noise, stop being finite, as `outputs for noise are not finite, first in layer 'fc'`; or nothing."""
    if bool(logits.isfinite().all()):
        return ""
    with explained("network", network, inputs), evaluating(network):
        layer = first_non_finite(network, noise_for(network, inputs)[:1])
    return "outputs for noise are not finite" + (f", first in layer {layer!r}" if layer else ", though each layer's are")


def noise_for(network: nn.Module, inputs: InputSpec) -> Tensor:
    """Two inputs of noise [2, C, H, W], the same in each call, on the device of the network's weights."""
    weight = next(network.parameters(), torch.empty(0))
    return torch.randn(2, *inputs.shape, generator=torch.Generator().manual_seed(0)).to(weight.device)


def _few(network: nn.Module, inputs: InputSpec) -> Tensor:
    """The inputs of `noise_for`, only the first if they are large."""
    return noise_for(network, inputs)[: 1 if inputs.values > LARGE else 2]


def flattened(output: object) -> Tensor:
    """Logits [N, classes], float32; those of pixels one row each."""
    logits = logits_of(output)
    assert isinstance(logits, Tensor)
    return logits.float().movedim(1, -1).flatten(0, -2)


def kind_of_outputs(network: nn.Module, inputs: InputSpec) -> str:
    """What `network` returns, by the values for a few inputs: softmax and log-softmax carry the classes on another scale.

    One of `logits`, `negative logits`, `probabilities`, `log-probabilities`, `independent probabilities` and `independent
    log-probabilities` (a sigmoid for each class, and its logarithm) and `constant`. Modes and global random numbers stay as
    they were.
    """
    device = noise_for(network, inputs).device
    telling = 1 if inputs.values > LARGE else TELLING
    noise = torch.randn(telling, *inputs.shape, generator=torch.Generator().manual_seed(0)).to(device)
    flat = torch.tensor([0.0, 1.0], device=device).view(2, 1, 1, 1).expand(2, *inputs.shape)
    with keeping_random(device), evaluating(network), torch.no_grad():
        weak = [flattened(network(part)) for x in (noise, inputs.to_network(flat)) for part in x.split(telling)]
        strong = flattened(network(100 * noise))
    return _kind(torch.cat(weak), strong)


def _kind(weak: Tensor, strong: Tensor) -> str:
    """The kind of outputs, by those [N, classes] for inputs of the usual strength, and for some a hundred times as strong."""
    answers = torch.cat([weak, strong])
    if answers.std(0).amax() <= 1e-6 * answers.abs().amax().clamp_min(1e-12):
        return "constant"
    if bool((answers >= 0).all()) and bool((answers <= 1 + 1e-3).all()):
        if _is_one(answers.sum(1)):
            return "probabilities"
        return "logits" if _is_one(answers.square().sum(1)) or _cut_at_zero(weak) else "independent probabilities"
    if bool((answers > 0).any()):
        return "logits"
    if _is_one(answers.logsumexp(1).exp()):
        return "log-probabilities"
    if bool((weak < 0).all()) and bool((strong.amax(1) > -1e-3).float().mean() > 0.5):
        return "independent log-probabilities"  # they end at zero, and reach it only for strong inputs
    return "negative logits"


def _is_one(sums: Tensor) -> bool:
    return torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


def _cut_at_zero(values: Tensor) -> bool:
    """Whether some of `values` are zero and none is nearly so, as after a ReLU; a sigmoid comes near before it is zero."""
    return bool((values == 0).any()) and not bool(((values > 0) & (values < 1e-12)).any())


def gradient_arrives(network: nn.Module, inputs: InputSpec) -> bool:
    """Whether a gradient that is not zero reaches an input of noise; weights get none. Modes stay as they were.

    Raises `ValueError` if the network fails, as `probe` does.
    """
    x = _few(network, inputs).requires_grad_()
    with (
        explained("network", network, inputs),
        keeping_random(x.device),
        torch.enable_grad(),
        evaluating(network),
        frozen(network),
    ):
        answer = flattened(network(x))
        if not answer.requires_grad:
            return False
        (slope,) = torch.autograd.grad(answer.square().sum(), x, allow_unused=True)
    return slope is not None and bool(slope.abs().amax() > 0)


def trainable(network: nn.Module, inputs: InputSpec) -> bool:
    """Whether the outputs of `network` depend on a weight that is not frozen. Raises `ValueError` if the network fails."""
    x = _few(network, inputs)
    with explained("student", network, inputs), keeping_random(x.device), torch.enable_grad(), evaluating(network):
        return flattened(network(x)).requires_grad
