"""DDA: diverse diffusion augmentation (Li et al., ACM MM 2024, arXiv 2410.17606) of another method, its host.

A diffusion model makes several variations of each image of the host. Variations whose embedding differs too much from that of
their source are dropped; the others join the set with their source's target. The published code has neither step.
"""

from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from datafree.core.runtime import Runtime
from datafree.core.settings import DryRun, Images, PerRun
from datafree.core.state import Counter, Stateful
from datafree.data.augment import Augmentation
from datafree.data.pool import Batch, Pool, Queue
from datafree.engine.look import Look, kd
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.diffusion.diffuser import Diffuser, Diffusion
from datafree.methods.common.diffusion.embedded import Embedded
from datafree.methods.common.diffusion.filter import Filter, Preview
from datafree.methods.common.diffusion.pretrained import Pretrained
from datafree.methods.common.feature_match import FeatureMatch
from datafree.methods.csd import CSD
from datafree.methods.hosts import Host

MAX_TRIES_WITHOUT_A_KEEP = 1000  # variations after which a filter that has kept none is an error


class DDA(Method):
    """Settings of DDA. The loss is that of its code; omega and the embedding are our choice, since the paper gives neither."""

    name: Literal["dda"] = "dda"
    """Name of the method."""
    host: Host = CSD()
    """The method whose images are varied."""
    bank: Annotated[PositiveInt, PerRun(), DryRun(16)] = 10_000
    """Images that the host makes first; the small diffusion model is trained on them."""
    batch: Images = 200
    """Images that the host makes at a time, and sources varied at a time."""
    variations: NonNegativeInt = 4
    """Variations of each source; 0: only the host's images, with DDA's loss."""
    sources: Annotated[PositiveInt, PerRun()] = 10_000
    """Images that are varied: first those of the bank, in their order, then new ones (ours)."""
    diffusion: Diffusion = Diffusion()
    """The diffusion model."""
    # A model of two training steps makes only poor variations, so a dry run keeps them all.
    omega: Annotated[float, DryRun(-1)] = Field(0.6, ge=-1, le=1)
    """Least cosine between the embeddings of a variation and its source for the variation to be kept (ours)."""
    clip: str = ""
    """CLIP image encoder for the embedding, a folder or a hub name; empty: the teacher's penultimate feature (ours)."""
    same_class: Annotated[bool, DryRun(False)] = False
    """Also drop variations that the teacher puts in another class than their source's target (ours)."""
    cross_entropy: NonNegativeFloat = 1.0
    """Weight of the cross-entropy with the targets that the images were made for."""
    features: NonNegativeFloat = 30.0
    """Weight of the distance between the last feature maps of student and teacher."""
    look: Look = Look(temperature=20.0, augment=Augmentation(crop=4, flip=True))
    """How the student sees the images."""

    @property
    def adversarial(self) -> bool:
        """Whether the host's images depend on the student."""
        return self.host.adversarial

    @property
    def needs_gradient(self) -> bool:
        """Whether the host does."""
        return self.host.needs_gradient

    def start(self, problem: Problem, runtime: Runtime) -> "DDASynthesizer":
        """Start the host and DDA.

        Args:
            problem: teacher, student and inputs.
            runtime: device, precision and random numbers of the run.

        Returns:
            The synthesizer, which makes the images.

        Raises:
            ValueError: the host does not support the problem, or the diffusion model cannot be loaded.
        """
        problem.refuse_other_tasks("dda")
        return DDASynthesizer(self, problem, runtime)

    def files(self) -> tuple[Path, ...]:
        """The host's files, and the folders of pretrained models."""
        return (*self.host.files(), *(Path(name) for name in (self.diffusion.pipeline, self.clip) if name))


class DDASynthesizer(Synthesizer):
    """DDA at work: first the bank, then the kept variations of the bank, then new images of the host with variations."""

    reads_targets = True

    def __init__(self, settings: DDA, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        self.host = settings.host.start(problem, runtime)
        self.bank = Pool(problem.inputs, settings.bank, runtime.device, targets=True, classes=problem.classes)
        self.queue = Queue(problem.inputs, runtime.device, problem.classes)
        self.varied = Counter()  # sources that have been varied
        self.diffuser: Diffuser | None = None
        if settings.variations:
            kind = Pretrained if settings.diffusion.pipeline else Embedded
            self.diffuser = kind(settings.diffusion, problem.inputs, runtime)
        clip = settings.clip if settings.variations else ""
        self.filter = Filter(problem, runtime, settings.omega, settings.same_class, clip)
        self.preview = Preview()
        self.match = FeatureMatch(problem, runtime) if settings.features and problem.has_student else None

    def at(self, done: float) -> None:
        self.host.at(done)

    def restart(self) -> bool:
        return self.host.restart()

    def preparation(self) -> tuple[int, int]:
        """Each batch of the bank is a slice, then each slice of the diffusion model's training."""
        done, total = self.diffuser.training() if self.diffuser else (0, 0)
        batches = [-(-images // self.settings.batch) for images in (len(self.bank), self.settings.bank)]
        return batches[0] + done, batches[1] + total

    def prepare(self) -> None:
        missing = self.settings.bank - len(self.bank)
        if missing:
            with self.runtime.timed("bank"):
                images = self._host_images(min(missing, self.settings.batch))
            self.bank.add(images)
            self.queue.add(images)
        elif self.diffuser:
            with self.runtime.timed("diffusion_training"):
                self.diffuser.train(self.bank.pixels)

    def synthesize(self, n: int) -> Batch:
        """`n` images, each with its target y [n, classes]. Raises `ValueError` if the filter keeps no variation."""
        while len(self.queue) < n:
            self._extend_queue()
        return self.queue.take(n)

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """Knowledge distillation, cross-entropy with the targets, and distance of the last feature maps, augmented."""
        settings = self.settings
        x = settings.look(batch.x, self.runtime.random)
        if self.match:
            teacher_logits, student_logits, distance = self.match(student, x)
        else:
            with torch.no_grad():
                teacher_logits = self.teacher.fast(x)
            student_logits, distance = student(x), None
        self.host.on_student_batch(student, x, teacher_logits)
        loss = kd(student_logits, teacher_logits, settings.look.temperature)
        if settings.cross_entropy:
            assert batch.y is not None
            loss = loss + settings.cross_entropy * F.cross_entropy(student_logits.float(), batch.y)
        return loss if distance is None else loss + settings.features * distance

    def state(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {"bank": self.bank, "waiting": self.queue, "varied": self.varied, "shown": self.preview}
        parts |= {f"host.{name}": part for name, part in self.host.state().items()}
        parts |= {f"diffuser.{name}": part for name, part in self.diffuser.state().items()} if self.diffuser else {}
        return parts | ({"align": self.match.align} if self.match else {})

    def student_parameters(self) -> tuple[nn.Parameter, ...]:
        """Those of the host, and the head that aligns the feature maps."""
        return (*self.host.student_parameters(), *(self.match.align.parameters() if self.match else ()))

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return self.host.optimizers()

    def pictures(self) -> dict[str, Tensor]:
        """The host's pictures, and the last sources with their variations."""
        return self.host.pictures() | ({"variations": self.preview.picture()} if self.preview.images else {})

    def provenance(self) -> str:
        sources = [self.host.provenance(), self.diffuser.provenance if self.diffuser else "none"]
        sources += [f"pretrained filter: {self.settings.clip}"] if self.settings.clip and self.diffuser else []
        return "; ".join(source for source in sources if source != "none") or "none"

    def _extend_queue(self) -> None:
        """Add the kept variations of the next sources to the queue; if the bank is used up, new images with theirs."""
        first, batch = self.varied.count, self.settings.batch
        due = min(batch, self.settings.sources - first) if self.diffuser else 0
        if due and first < len(self.bank):
            sources = self.bank.rows(slice(first, first + due))
        else:
            sources = self._host_images(batch)
            self.queue.add(sources)
        if self.diffuser and due:
            assert sources.y is not None
            self.queue.add(self._variations(self.diffuser, sources.x[:due], sources.y[:due]))
            self.varied.count += min(due, len(sources.x))

    def _host_images(self, n: int) -> Batch:
        """`n` images of the host, with its targets or, if it has none, with the teacher's predictions, one-hot."""
        x, y, _ = self.host.synthesize(n)
        if y is None:
            with torch.no_grad():
                y = F.one_hot(self.problem.teacher(x).argmax(1), self.problem.classes).float()
        return Batch(x, y)

    def _variations(self, diffuser: Diffuser, x: Tensor, y: Tensor) -> Batch:
        """Kept variations of x [B, C, H, W], network units, with their sources' targets; `ValueError` if there is none."""
        inputs, k = self.problem.inputs, self.settings.variations
        images = inputs.to_float_pixels(x).clamp(0, 1)
        with self.runtime.timed("variation"):
            made = diffuser.vary(images.repeat_interleave(k, 0), self.settings.diffusion.strength)
            made = made.view(len(images), k, *inputs.shape)
            similarity, kept = self.filter(images, made, y)
        self.preview.update(images, made, similarity, kept)
        tried = self.runtime.counters.variations
        if not self.runtime.counters.kept and (
            tried >= MAX_TRIES_WITHOUT_A_KEEP or self.varied.count + len(images) >= self.settings.sources
        ):
            raise ValueError(
                f"The filter kept none of {tried} variations: omega is {self.settings.omega}, and the largest cosine of the "
                f"last ones is {similarity.max():.2f}; lower --method.omega or --method.diffusion.strength, or leave out "
                "--method.same-class."
            )
        return Batch(inputs.to_network(made[kept]), y[:, None].expand(-1, k, -1)[kept])
