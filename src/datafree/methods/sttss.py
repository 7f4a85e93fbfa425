"""STTSS: soft targeted transfer set synthesis (Wang, AAAI 2021, arXiv 2104.04868).

The teacher's penultimate features are modelled as one multivariate normal distribution, with correlations computed from the
teacher's weights. Features drawn from it pass through the teacher's last layer (its head) and become soft targets. Noise images
are optimised until the teacher predicts those targets, and are then the transfer set of a plain distillation.
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
from datafree.networks.inside.taps import Call, calls, layer_inputs, output_replaced

JITTER = 1e-4  # added to the diagonal of the covariance (the paper's value)
BALANCING_DRAWS = 200  # draws, each of a batch's size, after which classes that are still too rare stay so


class STTSS(Method):
    """Settings of STTSS. "(ours)" marks what the paper leaves open and we chose."""

    name: Literal["sttss"] = "sttss"
    """Name of the method."""
    targets: Literal["normal", "dirichlet"] = "normal"
    """normal: those of the paper; dirichlet: those of ZSKD (arXiv 1905.08114), the paper's baseline, with our inversion."""
    sigma: PositiveFloat = 1.5
    """Scale of the features' covariance; the paper's best are 1.5 (MNIST) and 2.0 (CIFAR-10)."""
    sigma_scales: Literal["variance", "deviation"] = "variance"
    """variance: sigma multiplies the correlations; deviation: its square does."""
    feature: Literal["literal", "pre-activation"] = "literal"
    """literal: the drawn feature is the head's input; pre-activation: it first passes the layers between (ours)."""
    balanced: bool = False
    """Draw targets until each class is the likeliest equally often (ours)."""
    activation: NonNegativeFloat = 0.05
    """Weight lambda_a of the term that keeps the features large; the paper's are 0.05 (LeNet-5) and 0.1 (AlexNet)."""
    inversion: Inversion = Inversion(batch=100, steps=1500, lr=1e-3, betas=(0.9, 0.999), patience=100, statistics=0)
    """How the images are optimised, in [0, 1] pixels (ours); each by itself, except for statistics, which are of a batch."""
    noise: Literal["uniform", "clouds"] = "uniform"
    """Initial images: uniform noise, or clouds, smooth random fields with a random part of each image black (ours)."""
    look: Look = Look(temperature=20.0, augment=Augmentation(shift=0.1, scale=0.1, degrees=10))
    """How the student sees the images; the temperature also divides the logits of the targets, as in ZSKD (ours). Add flip
    for objects."""

    def start(self, problem: Problem, runtime: Runtime) -> "STTSSSynthesizer":
        """Start STTSS: find the teacher's head and the layer before it.

        Args:
            problem: teacher, student and inputs.
            runtime: device, precision and random numbers of the run.

        Returns:
            The synthesizer, which makes the images.

        Raises:
            ValueError: the teacher does not end in a linear layer, or no layer gives its features.
        """
        problem.refuse_other_tasks("sttss")
        return STTSSSynthesizer(self, problem, runtime)


class STTSSSynthesizer(Synthesizer):
    """STTSS at work: it draws soft targets, and makes images for which the teacher predicts them."""

    def __init__(self, settings: STTSS, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        self.features = FeatureModel(settings, problem, runtime)
        self.inverter = Inverter(settings.inversion, problem, runtime)
        if settings.inversion.statistics:
            problem.norms("sttss with statistics")

    def synthesize(self, n: int) -> Batch:
        """`n` images with the soft targets y [n, classes] that they were made for."""
        batch = self.settings.inversion.batch
        sizes = [min(batch, n - done) for done in range(0, n, batch)]
        targets = [self.features.targets(size) for size in sizes]
        return Batch(torch.cat([self._invert(y) for y in targets]), torch.cat(targets))

    def state(self) -> dict[str, Stateful]:
        """At most the statistics of earlier batches: a batch of images depends on its random numbers only."""
        return self.inverter.state()

    def _invert(self, targets: Tensor) -> Tensor:
        """Images in network units for which the teacher predicts `targets`, each the best of its iterates."""
        settings, inputs, teacher, head = self.settings, self.problem.inputs, self.teacher, self.features.head
        pixels = NOISES[settings.noise](len(targets), inputs.shape, self.runtime).requires_grad_()
        entropy = torch.special.entr(targets).sum(dim=1)
        folded = not settings.inversion.statistics  # a folded teacher has no batch norms to read
        with layer_inputs(teacher.folded if folded else teacher.network, head) as features:

            def activation(images: Tensor, view: Tensor, logits: Tensor) -> Iterator[Tensor]:
                if settings.activation:
                    yield -settings.activation * features[head].float().abs().mean(dim=1)

            x = self.inverter(
                [pixels],
                lambda: inputs.to_network(pixels),
                # Minus the entropy of the targets, a constant: a perfect match is then 0, so that a plateau is found.
                lambda logits: soft_cross_entropy(logits, targets, settings.look.temperature) - entropy,
                activation,
                teacher=partial(teacher.fast, readable=True) if folded else teacher,
                after=lambda: pixels.clamp_(0, 1),
            )
        with torch.no_grad():
            counts = torch.bincount(teacher.fast(x).argmax(1), minlength=self.problem.classes)
        self.runtime.note("target_entropy", entropy.mean())  # nats; log(classes) for uniform targets
        self.runtime.note("largest_class", counts.max() / len(x))  # share of the images in the class predicted most often
        return x


class FeatureModel:
    """The multivariate normal distribution of the teacher's penultimate features, and the soft targets drawn from it."""

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
        """Soft targets [n, classes], probabilities, from `n` new features, or from Dirichlet draws."""
        if not self.settings.balanced:
            return self._draw(n)
        classes = self.problem.classes
        quota = torch.full((classes,), -(-n // classes), device=self.runtime.device)
        kept = [self._draw(0)]
        for _ in range(BALANCING_DRAWS):
            drawn = self._draw(n)
            chosen = nn.functional.one_hot(drawn.argmax(1), classes)
            accepted = (chosen.cumsum(0) * chosen).sum(1) <= quota[drawn.argmax(1)]
            quota = quota - chosen[accepted].sum(0)
            kept.append(drawn[accepted])
        balanced = torch.cat([*kept, self._draw(n)])  # draws of any class take the place of those that are still missing
        return balanced[:n]

    def _draw(self, n: int) -> Tensor:
        if self.settings.targets == "dirichlet":
            return self._dirichlet(n)
        z = self.runtime.noise(n, len(self._root)) @ self._root.T
        return (self._logits(z).float() / self.settings.look.temperature).softmax(dim=1)

    def _logits(self, z: Tensor) -> Tensor:
        """The teacher's logits [n, classes] for the penultimate features z [n, features]."""
        head, feature = self._head.layer, self._feature.layer
        if self.settings.feature == "literal":
            return head(z)  # type: ignore[no-any-return]
        if isinstance(feature, nn.Linear):  # the layers after the feature run as they are: activation, norm, head
            x = torch.zeros(len(z), *self.problem.inputs.shape, device=z.device)
            with output_replaced(feature, z):
                return self.problem.teacher(x)  # type: ignore[no-any-return]
        return head(z.relu())  # type: ignore[no-any-return]

    def _dirichlet(self, n: int) -> Tensor:
        """The targets of ZSKD: Dirichlet draws for each class in turn, half of them with a tenth of the concentration."""
        similarity = row_correlation(_weight(self._head))
        low, high = similarity.amin(1, keepdim=True), similarity.amax(1, keepdim=True)
        concentration = ((similarity - low) / (high - low)).clamp_min(1e-3)
        rows = torch.arange(n, device=concentration.device)
        beta = torch.where(rows % 2 == 0, 1.0, 0.1)[:, None]
        gamma = torch._standard_gamma(beta * concentration[rows // 2 % len(concentration)], generator=self.runtime.random)
        return gamma / gamma.sum(1, keepdim=True).clamp_min(1e-30)


def row_correlation(weight: Tensor) -> Tensor:
    """Cosines [units, units] between the rows of a weight [units, inputs]: R_ij = w_i . w_j / (|w_i| |w_j|).

    In PyTorch row i holds the incoming weights of unit i; columns would correlate the layer's inputs instead.
    """
    unit = nn.functional.normalize(weight, dim=1)
    return unit @ unit.T


def _weight(call: Call) -> Tensor:
    assert isinstance(call.layer.weight, Tensor)
    return call.layer.weight.detach()


def head_and_feature(trace: list[Call]) -> tuple[Call, Call]:
    """The last linear layer (the head), and the layer that gives its input.

    The latter is the last linear layer before the head with as many units, or else the last convolution with as many channels
    (networks that pool). Raises `ValueError` if the last layer is not linear, or no layer gives its input.
    """
    head = trace[-1]
    if not isinstance(head.layer, nn.Linear):
        kind = type(head.layer).__name__
        raise ValueError(f"sttss needs a teacher that ends in a linear layer, and {head.name!r} is a {kind}; use dfad.")
    width = head.layer.in_features
    linear = [call for call in trace[:-1] if isinstance(call.layer, nn.Linear) and call.layer.out_features == width]
    pooled = [call for call in trace[:-1] if isinstance(call.layer, nn.Conv2d) and call.layer.out_channels == width]
    if found := linear or pooled:
        return head, found[-1]
    raise ValueError(f"sttss finds no layer of the teacher that gives the {width} features of {head.name!r}; use dfad.")
