"""NAYER: noisy layer data generation (Tran et al., CVPR 2024, arXiv 2310.00258).

The generator is given no noise but the embeddings of the classes, which never change. What makes each batch a new one is its
first layer, drawn anew before every batch and optimised with the rest until the teacher answers with those classes and its
batch norms see their running statistics.
"""

from pathlib import Path
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from datafree.core.runtime import Runtime
from datafree.core.state import Counter, Stateful
from datafree.data.augment import Augmentation
from datafree.data.pool import Batch
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.adversary import Adversary, decision_adversary
from datafree.methods.common.diffusion.pretrained import clip_text
from datafree.methods.common.generators import Latent, plain_start
from datafree.methods.common.inversion import Inversion, Inverter
from datafree.networks.inside.taps import calls

PROMPT = "a image of {}"  # its code's words
ONE_HOT = "--method.embeddings one-hot"


class NAYER(Method):
    """Settings of NAYER; defaults are those of its code for CIFAR-10, but for the embeddings and without the adversary."""

    name: Literal["nayer"] = "nayer"
    inversion: Inversion = Inversion(
        batch=400, steps=30, lr=4e-3, betas=(0.5, 0.999), cross_entropy=0.5, statistics=10.0, history=0.9, balanced=True
    )
    """How noisy layer and generator are optimised for a batch. Balanced labels are lists of the classes in order."""
    latent: Latent = Latent(size=1000, width=128)
    """The generator; its size is the number of outputs of the noisy layer."""
    embeddings: Literal["classifier", "one-hot", "clip"] = "classifier"
    """What stands for a class: its row in the teacher's last linear layer, of unit length (ours); a one-hot vector; or its name
    in CLIP's text encoder (the paper's, which is not data-free)."""
    clip: str = ""
    """CLIP's text encoder, a folder or a hub name, for clip embeddings."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in their order, for clip embeddings."""
    generator_life: PositiveInt = 20
    """Batches after which the whole generator begins anew; in the paper's code every tenth epoch, of two batches."""
    adversary: Adversary = Adversary(weight=0.0)
    """Weight of the student's distance where it agrees on the class; 0: images need no student. The paper's is 1.33."""
    views: Augmentation = Augmentation(crop=4, flip=True)
    """How both networks see the images in each step."""
    look: Look = Look(temperature=20.0, augment=Augmentation(crop=4, flip=True))
    """How the student sees the images."""

    @model_validator(mode="after")
    def _has_a_text_encoder(self) -> Self:
        if len({self.embeddings == "clip", self.clip != "", self.class_names != ()}) > 1:
            raise ValueError("clip embeddings need clip and class_names, and no others do; give all three or none")
        return self

    @property
    def adversarial(self) -> bool:
        """Only the adversary looks at the student."""
        return self.adversary.weight > 0

    def start(self, problem: Problem, runtime: Runtime) -> "NAYERSynthesizer":
        """Raises `ValueError` for a teacher without batch norms that keep statistics, sides that cannot be made, and embeddings
        that cannot be had.
        """
        problem.refuse_other_tasks("nayer")
        return NAYERSynthesizer(self, problem, runtime)

    def files(self) -> tuple[Path, ...]:
        return (Path(self.clip),) if self.clip else ()


class NAYERSynthesizer(Synthesizer):
    """NAYER at work: the generator behind the noisy layers, and what the teacher's norms have seen."""

    def __init__(self, settings: NAYER, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        if settings.inversion.statistics:
            problem.norms("nayer")
        self.inverter = Inverter(settings.inversion, problem, runtime)
        behind = settings.latent.build(problem.inputs.shape, runtime, pixels=True)
        self.generator = LabelGenerator(class_embeddings(settings, problem, runtime), behind).to(runtime.device)
        self.batches = Counter()
        self.at(0.0)

    def at(self, done: float) -> None:
        self.adversary = self.settings.adversary.at(done)

    def synthesize(self, n: int) -> Batch:
        """n images with the classes y [n, classes], one-hot, that they were made for."""
        parts = torch.arange(n, device=self.runtime.device).split(self.settings.inversion.batch)
        labels = [self._labels(len(part)) for part in parts]
        images = [self._invert(part) for part in labels]
        return Batch(torch.cat(images), F.one_hot(torch.cat(labels), self.problem.classes).float())

    def restart(self) -> bool:
        """As at the end of a generator's life, and without the statistics of earlier batches."""
        plain_start(self.generator, self.runtime.random)
        self.inverter.history.forget()
        return True

    def state(self) -> dict[str, Stateful]:
        return {"generator": self.generator, "batches": self.batches, **self.inverter.state()}

    def provenance(self) -> str:
        return f"pretrained text prior: {self.settings.clip}" if self.settings.clip else "none"

    def _labels(self, n: int) -> Tensor:
        """As many lists of all classes in order as n holds, and random classes for the rest."""
        classes, runtime = self.problem.classes, self.runtime
        if not self.settings.inversion.balanced:
            return self.settings.inversion.labels(n, classes, runtime)
        rest = torch.randint(classes, (n % classes,), generator=runtime.random, device=runtime.device)
        return torch.cat([torch.arange(n - n % classes, device=runtime.device) % classes, rest])

    def _invert(self, labels: Tensor) -> Tensor:
        """Images in network units, the best iterate of the whole batch."""
        settings, inputs, generator = self.settings, self.problem.inputs, self.generator
        if self.batches.count % settings.generator_life == 0:
            plain_start(generator, self.runtime.random)
        self.batches.count += 1
        features = generator.embeddings.shape[1]
        groups = -(-len(labels) // self.problem.classes)
        noisy = self.runtime.noise(groups, features, settings.latent.size).requires_grad_()
        bias = torch.zeros(groups, 1, settings.latent.size, device=self.runtime.device).requires_grad_()
        return self.inverter(
            [*generator.parameters(), noisy, bias],
            lambda: inputs.to_network(generator(labels, noisy, bias)),
            lambda logits: F.cross_entropy(logits, labels),
            decision_adversary(self.adversary, self.problem.student, self.runtime),
            view=lambda images: settings.views(images, self.runtime.random),
        )


class LabelGenerator(nn.Module):
    """Images in [0, 1] of classes, by way of noisy layers that serve a group of rows each."""

    embeddings: Tensor  # [classes, features]

    def __init__(self, embeddings: Tensor, behind: nn.Module):
        super().__init__()
        self.register_buffer("embeddings", embeddings, persistent=False)
        self.norm = nn.BatchNorm1d(embeddings.shape[1])
        self.behind = behind

    def forward(self, labels: Tensor, noisy: Tensor, bias: Tensor) -> Tensor:
        """Of labels [B], with a noisy layer for every so many rows as there are classes: weights [groups, features, outputs],
        biases [groups, 1, outputs].
        """
        # The paper norms the rows of the batch; where classes are balanced, their statistics are those of the classes.
        embedded = self.norm(self.embeddings)[labels]
        rows = min(len(self.embeddings), len(labels))
        groups = F.pad(embedded, (0, 0, 0, rows * len(noisy) - len(labels))).view(len(noisy), rows, -1)
        return self.behind(torch.baddbmm(bias, groups, noisy).flatten(0, 1)[: len(labels)])  # type: ignore[no-any-return]


def class_embeddings(settings: NAYER, problem: Problem, runtime: Runtime) -> Tensor:
    """What stands for each class, [classes, features]. Raises `ValueError` where the settings ask for what there is not."""
    if settings.embeddings == "one-hot":
        return torch.eye(problem.classes, device=runtime.device)
    if settings.embeddings == "classifier":
        return _classifier_rows(problem, runtime)
    if len(settings.class_names) != problem.classes:
        raise ValueError(f"nayer got {len(settings.class_names)} class names for {problem.classes} classes; give one for each.")
    return clip_text(settings.clip, [PROMPT.format(name) for name in settings.class_names], runtime, ONE_HOT)


def _classifier_rows(problem: Problem, runtime: Runtime) -> Tensor:
    """The weights of each class in the teacher's last linear layer or 1x1 convolution, of unit length."""
    trace = calls(problem.teacher.network, runtime.noise(2, *problem.inputs.shape))
    layers = [call for call in trace if isinstance(call.layer, nn.Linear | nn.Conv2d)]
    weight = layers[-1].layer.weight if layers else None
    if not isinstance(weight, Tensor) or len(weight) != problem.classes or weight[0].numel() != weight.shape[1]:
        last = layers[-1].name if layers else trace[-1].name
        raise ValueError(f"nayer reads classes in a last linear layer, and {last!r} gives no row for each; pass {ONE_HOT}.")
    return F.normalize(weight.detach().flatten(1).float(), dim=1)
