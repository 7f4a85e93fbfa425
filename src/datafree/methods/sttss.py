"""STTSS: soft targeted transfer set synthesis (Wang, AAAI 2021, arXiv 2104.04868).

The teacher's penultimate features are taken for one multivariate normal, whose correlations come from the teacher's own
weights. Features drawn from it give soft targets through the teacher's head; noise images are optimised until the teacher
answers with those targets; the images are the transfer set of an ordinary distillation.
"""

from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from datafree.core.runtime import Runtime
from datafree.core.state import Stateful
from datafree.data.augment import Augmentation
from datafree.data.pool import Batch
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.inversion import Inversion, Inverter
from datafree.methods.common.losses import soft_cross_entropy
from datafree.methods.common.textures import NOISES
from datafree.networks.taps import Call, calls, layer_inputs, output_replaced

JITTER = 1e-4  # added to the covariance's diagonal (the paper's)
BALANCING_DRAWS = 200  # draws of a batch's size before balancing by rejection gives up on a class


class STTSS(Method):
    """Settings of STTSS. What the paper leaves open and we chose is marked "ours"."""

    name: Literal["sttss"] = "sttss"
    targets: Literal["normal", "dirichlet"] = "normal"
    """normal: the paper's; dirichlet: ZSKD's targets (arXiv 1905.08114), the paper's own baseline, same inversion."""
    sigma: PositiveFloat = 1.5
    """Scale of the features' covariance; the paper's best are 1.5 (MNIST) and 2.0 (CIFAR-10)."""
    sigma_scales: Literal["variance", "deviation"] = "variance"
    """Whether sigma multiplies the correlations itself, or its square does."""
    feature: Literal["literal", "pre-activation"] = "literal"
    """literal: the drawn feature goes straight into the head; pre-activation: through what follows its layer first (ours)."""
    balanced: bool = False
    """Draw targets until each class is the likeliest equally often (ours)."""
    activation: NonNegativeFloat = 0.05
    """Weight lambda_a of the term that keeps the features high; the paper's are 0.05 (LeNet-5), 0.1 (AlexNet)."""
    inversion: Inversion = Inversion(batch=100, steps=1500, lr=1e-3, betas=(0.9, 0.999), patience=100, statistics=0)
    """How the images are optimised, in [0, 1] pixels (ours); each on its own, but for statistics, which are of a batch."""
    noise: Literal["uniform", "clouds"] = "uniform"
    """What an image starts as; clouds: smooth random fields, cut off to black at a level drawn for each image (ours)."""
    look: Look = Look(temperature=20.0, augment=Augmentation(shift=0.1, scale=0.1, degrees=10))
    """How the student sees the images; the temperature, as ZSKD's, also softens the targets (ours). Add flip for objects."""

    def start(self, problem: Problem, runtime: Runtime) -> "STTSSSynthesizer":
        """Find the head and its features. Raises `ValueError` for a teacher that does not end in a linear layer."""
        problem.refuse_other_tasks("sttss")
        return STTSSSynthesizer(self, problem, runtime)


class STTSSSynthesizer(Synthesizer):
    """STTSS at work: soft targets, and images that the teacher answers so."""

    def __init__(self, settings: STTSS, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        self.features = FeatureModel(settings, problem, runtime)
        self.inverter = Inverter(settings.inversion, problem, runtime)
        if settings.inversion.statistics:
            problem.norms("sttss with statistics")

    def synthesize(self, n: int) -> Batch:
        """n images with the soft targets y [n, classes] that they were made for."""
        batch = self.settings.inversion.batch
        sizes = [min(batch, n - done) for done in range(0, n, batch)]
        targets = [self.features.targets(size) for size in sizes]
        return Batch(torch.cat([self._invert(y) for y in targets]), torch.cat(targets))

    def state(self) -> dict[str, Stateful]:
        """At most the statistics of earlier batches: a batch of images depends on its random numbers only."""
        return self.inverter.state()

    def _invert(self, targets: Tensor) -> Tensor:
        """Images in network units that the teacher answers with `targets`, each the best of its own iterates."""
        settings, inputs, teacher, head = self.settings, self.problem.inputs, self.teacher, self.features.head
        pixels = NOISES[settings.noise](len(targets), inputs.shape, self.runtime).requires_grad_()
        entropy = torch.special.entr(targets).sum(dim=1)
        folded = not settings.inversion.statistics  # a folded teacher has no norms to read
        with layer_inputs(teacher.folded if folded else teacher.network, head) as seen:

            def activation(images: Tensor, view: Tensor, logits: Tensor) -> Iterator[Tensor]:
                if settings.activation:
                    yield -settings.activation * seen[head].float().abs().mean(dim=1)

            x = self.inverter(
                [pixels],
                lambda: inputs.to_network(pixels),
                # Less the targets' own entropy, a constant: nil where the match is perfect, so that a plateau shows.
                lambda logits: soft_cross_entropy(logits, targets, settings.look.temperature) - entropy,
                activation,
                teacher=partial(teacher.fast, readable=True) if folded else teacher,
                after=lambda: pixels.clamp_(0, 1),
            )
        with torch.no_grad():
            counts = torch.bincount(teacher.fast(x).argmax(1), minlength=self.problem.classes)
        self.runtime.note("target_entropy", entropy.mean())  # nats; log(classes) where the targets say nothing
        self.runtime.note("largest_class", counts.max() / len(x))  # share of the images, as the teacher sees them
        return x


class FeatureModel:
    """The teacher's penultimate features as one multivariate normal, and the soft targets that they give."""

    def __init__(self, settings: STTSS, problem: Problem, runtime: Runtime):
        self.settings, self.problem, self.runtime = settings, problem, runtime
        trace = calls(problem.teacher.network, runtime.noise(2, *problem.inputs.shape))
        self._head, self._feature = head_and_feature(trace)
        self.head = self._head.name
        correlation = row_correlation(_weight(self._feature).flatten(1).double())
        scale = settings.sigma if settings.sigma_scales == "variance" else settings.sigma**2
        eye = torch.eye(len(correlation), dtype=correlation.dtype, device=correlation.device)
        self._root = torch.linalg.cholesky(scale * correlation + JITTER * eye).float()

    @torch.no_grad()
    def targets(self, n: int) -> Tensor:
        """Soft targets [n, classes], probabilities, from n fresh features, or from Dirichlet draws."""
        if not self.settings.balanced:
            return self._draw(n)
        classes = self.problem.classes
        quota = torch.full((classes,), -(-n // classes), device=self.runtime.device)
        kept = [self._draw(0)]
        for _ in range(BALANCING_DRAWS):
            fresh = self._draw(n)
            chosen = nn.functional.one_hot(fresh.argmax(1), classes)
            accepted = (chosen.cumsum(0) * chosen).sum(1) <= quota[fresh.argmax(1)]
            quota = quota - chosen[accepted].sum(0)
            kept.append(fresh[accepted])
        balanced = torch.cat([*kept, self._draw(n)])  # what the draws never gave is filled up as it comes
        return balanced[:n]

    def _draw(self, n: int) -> Tensor:
        if self.settings.targets == "dirichlet":
            return self._dirichlet(n)
        z = self.runtime.noise(n, len(self._root)) @ self._root.T
        return (self._answer(z).float() / self.settings.look.temperature).softmax(dim=1)

    def _answer(self, z: Tensor) -> Tensor:
        """The teacher's logits where its penultimate feature is z."""
        head, feature = self._head.layer, self._feature.layer
        if self.settings.feature == "literal":
            return head(z)  # type: ignore[no-any-return]
        if isinstance(feature, nn.Linear):  # the rest of the network as it is: activation, norm, head
            x = torch.zeros(len(z), *self.problem.inputs.shape, device=z.device)
            with output_replaced(feature, z):
                return self.problem.teacher(x)  # type: ignore[no-any-return]
        return head(z.relu())  # type: ignore[no-any-return]

    def _dirichlet(self, n: int) -> Tensor:
        """ZSKD's targets: Dirichlet draws around each class in turn, half of them at a tenth of the concentration."""
        similarity = row_correlation(_weight(self._head))
        low, high = similarity.amin(1, keepdim=True), similarity.amax(1, keepdim=True)
        concentration = ((similarity - low) / (high - low)).clamp_min(1e-3)
        rows = torch.arange(n, device=concentration.device)
        beta = torch.where(rows % 2 == 0, 1.0, 0.1)[:, None]
        gamma = torch._standard_gamma(beta * concentration[rows // 2 % len(concentration)], generator=self.runtime.random)
        return gamma / gamma.sum(1, keepdim=True).clamp_min(1e-30)


def row_correlation(weight: Tensor) -> Tensor:
    """Cosine between the rows of a weight [units, inputs]: R_ij = w_i . w_j / (|w_i| |w_j|), [units, units].

    PyTorch keeps the incoming weights of unit i in row i; the columns would correlate the layer's inputs instead.
    """
    unit = nn.functional.normalize(weight, dim=1)
    return unit @ unit.T


def _weight(call: Call) -> Tensor:
    """Weight of a linear layer or a convolution."""
    assert isinstance(call.layer.weight, Tensor)
    return call.layer.weight.detach()


def head_and_feature(trace: list[Call]) -> tuple[Call, Call]:
    """The last linear layer, and the layer whose outputs are its features: the linear one before it, else the last
    convolution with as many channels (pooled networks).

    Raises `ValueError` where the network's last layer is not linear, or no layer gives its features.
    """
    head = trace[-1]
    if not isinstance(head.layer, nn.Linear):
        kind = type(head.layer).__name__
        raise ValueError(f"sttss needs a teacher that ends in a linear layer, and {head.name!r} is a {kind}; use dfad for it.")
    width = head.layer.in_features
    linear = [call for call in trace[:-1] if isinstance(call.layer, nn.Linear) and call.layer.out_features == width]
    pooled = [call for call in trace[:-1] if isinstance(call.layer, nn.Conv2d) and call.layer.out_channels == width]
    if found := linear or pooled:
        return head, found[-1]
    raise ValueError(f"sttss finds no layer of the teacher that gives the {width} features of {head.name!r}; use dfad for it.")
