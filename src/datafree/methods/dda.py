"""DDA: diverse diffusion augmentation (Li et al., ACM MM 2024, arXiv 2410.17606), around any other method.

A diffusion model re-renders the images of a host into several variations each; those whose embedding drifts from their
source's are dropped, and the others join the set with their source's target. The published code holds neither step.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_serializer, field_validator
from torch import Tensor, nn

from datafree.augment import Augmentation
from datafree.diffusion.diffuser import Diffuser, Diffusion
from datafree.diffusion.embedded import Embedded
from datafree.diffusion.filter import Filter, Shown
from datafree.diffusion.pretrained import Pretrained
from datafree.features import FeatureMatch
from datafree.losses import kd
from datafree.method import Method, Problem, Synthesizer
from datafree.methods.cmi import CMI
from datafree.methods.csd import CSD
from datafree.methods.deepinversion import DeepInversion
from datafree.methods.dfad import DFAD
from datafree.methods.stored import Stored
from datafree.methods.sttss import STTSS
from datafree.ranks import share
from datafree.runtime import Runtime
from datafree.state import Counter, Stateful
from datafree.transfer import Batch, Pool, Queue

HOSTS: dict[str, type[Method]] = {
    "cmi": CMI,
    "csd": CSD,
    "deepinversion": DeepInversion,
    "dfad": DFAD,
    "stored": Stored,
    "sttss": STTSS,
}
HOPELESS = 1000  # variations after which a filter that has kept none is an error


class DDA(Method):
    """Settings of DDA. The loss is that of its code; the paper gives neither omega nor the embedding, which are ours."""

    name: Literal["dda"] = "dda"
    counted: ClassVar[tuple[str, ...]] = ("bank", "batch", "sources")

    host: Method = CSD()
    """The method whose images are varied."""
    bank: PositiveInt = 10_000
    """Images of the host that are made first; the small diffusion model is trained on them."""
    batch: PositiveInt = 200
    """Images asked of the host at a time, and sources varied at a time."""
    variations: NonNegativeInt = 4
    """Variations of each source; 0: none, the host's images alone with DDA's loss."""
    sources: PositiveInt = 10_000
    """Images that are varied: first those of the bank, in their order, then fresh ones (ours)."""
    diffusion: Diffusion = Diffusion()
    """The diffusion model."""
    omega: float = Field(0.6, ge=-1, le=1)
    """Least cosine between the embeddings of source and variation for it to be kept (ours)."""
    clip: str = ""
    """CLIP's image encoder, a folder or a hub name, for the embedding; empty: the teacher's penultimate feature (ours)."""
    same_class: bool = False
    """Also drop variations that the teacher puts in another class than their source's target (ours)."""
    temperature: PositiveFloat = 20.0
    """Softens both networks' logits in the student's steps."""
    cross_entropy: NonNegativeFloat = 1.0
    """Weight of the targets that the images were made for."""
    features: NonNegativeFloat = 30.0
    """Weight of the distance between the networks' last feature maps."""
    augment: Augmentation = Augmentation(crop=4, flip=True)
    """How the student sees the images."""

    @field_validator("host", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "name" not in value:
            return value
        if value["name"] not in HOSTS:
            raise ValueError(f"no host is named {value['name']!r}; there are {', '.join(HOSTS)}")
        return HOSTS[value["name"]](**value)

    @field_serializer("host")
    def _with_name(self, host: Method) -> dict[str, Any]:
        return host.model_dump(mode="json")

    @property
    def adversarial(self) -> bool:
        """As the host."""
        return self.host.adversarial

    def rehearsal(self) -> "DDA":
        small = {"host": self.host.rehearsal(), "bank": min(self.bank, 16), "batch": min(self.batch, 8)}
        quick = {"updates": min(self.diffusion.updates, 2), "batch": min(self.diffusion.batch, 8), "steps": 2}
        lenient = {"omega": -1.0, "same_class": False}  # two steps of training vary nothing well
        return self.model_copy(update=small | lenient | {"diffusion": self.diffusion.model_copy(update=quick)})

    def shared(self) -> "DDA":
        diffusion = self.diffusion.model_copy(update={"batch": share(self.diffusion.batch, "--method.diffusion.batch")})
        return super().shared().model_copy(update={"host": self.host.shared(), "diffusion": diffusion})

    def start(self, problem: Problem, runtime: Runtime) -> "Augmenter":
        """Raises `ValueError` as the host does, and where the diffusion model cannot be had."""
        problem.refuse_other_tasks("dda")
        return Augmenter(self, problem, runtime)

    def files(self) -> tuple[Path, ...]:
        return (*self.host.files(), *(Path(name) for name in (self.diffusion.pipeline, self.clip) if name))


class Augmenter(Synthesizer):
    """DDA at work: first the bank, then what is kept of its variations, then fresh images of the host with theirs."""

    def __init__(self, settings: DDA, problem: Problem, runtime: Runtime):
        self.settings, self.problem, self.runtime = settings, problem, runtime
        self.host = settings.host.start(problem, runtime)
        self.bank = Pool(problem.inputs, settings.bank, runtime.device)
        self.waiting = Queue(problem.inputs, runtime.device)
        self.varied = Counter()  # sources so far
        self.diffuser: Diffuser | None = None
        if settings.variations:
            kind = Pretrained if settings.diffusion.pipeline else Embedded
            self.diffuser = kind(settings.diffusion, problem.inputs, runtime)
        clip = settings.clip if settings.variations else ""
        self.filter = Filter(problem, runtime, settings.omega, settings.same_class, clip)
        self.shown = Shown()
        self.match = FeatureMatch(problem, runtime) if settings.features and problem.has_student else None
        self.teacher = problem.teacher.folded(problem.inputs)  # for steps that look at no stage of it

    def preparation(self) -> tuple[int, int]:
        """Batches of the bank, then slices of the diffusion model's training."""
        done, total = self.diffuser.training() if self.diffuser else (0, 0)
        batches = [-(-images // self.settings.batch) for images in (len(self.bank), self.settings.bank)]
        return batches[0] + done, batches[1] + total

    def prepare(self) -> None:
        missing = self.settings.bank - len(self.bank)
        if missing:
            with self.runtime.timed("bank"):
                fresh = self._fresh(min(missing, self.settings.batch))
            self.bank.add(fresh)
            self.waiting.add(fresh)
        elif self.diffuser:
            with self.runtime.timed("diffusion_training"):
                self.diffuser.train(self.bank.pixels)

    def synthesize(self, n: int) -> Batch:
        """n images, each with its target y [n, classes]. Raises `ValueError` where the filter keeps nothing."""
        while len(self.waiting) < n:
            self._add_more()
        return self.waiting.deal(n)

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """Distillation, the targets' cross-entropy, and the distance of the last feature maps, on augmented images."""
        settings = self.settings
        x = settings.augment(batch.x, self.runtime.random)
        if self.match:
            answer, own, distance = self.match(student, x)
        else:
            with torch.no_grad():
                answer = self.teacher(x)
            own, distance = student(x), None
        self.host.watch(student, x, answer)
        loss = kd(own, answer, settings.temperature)
        if settings.cross_entropy:
            assert batch.y is not None
            loss = loss + settings.cross_entropy * F.cross_entropy(own.float(), batch.y)
        return loss if distance is None else loss + settings.features * distance

    def state(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {"bank": self.bank, "waiting": self.waiting, "varied": self.varied, "shown": self.shown}
        parts |= {f"host.{name}": part for name, part in self.host.state().items()}
        parts |= {f"diffuser.{name}": part for name, part in self.diffuser.state().items()} if self.diffuser else {}
        return parts | ({"align": self.match.align} if self.match else {})

    def companions(self) -> tuple[nn.Parameter, ...]:
        """The align head's, beside the host's."""
        return (*self.host.companions(), *(self.match.align.parameters() if self.match else ()))

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return self.host.optimizers()

    def pictures(self) -> dict[str, Tensor]:
        """Some sources and their variations."""
        return self.host.pictures() | ({"variations": self.shown.picture()} if self.shown.seen else {})

    def provenance(self) -> str:
        known = [self.host.provenance(), self.diffuser.provenance if self.diffuser else "none"]
        known += [f"pretrained filter: {self.settings.clip}"] if self.settings.clip and self.diffuser else []
        return "; ".join(words for words in known if words != "none") or "none"

    def _add_more(self) -> None:
        """Let kept variations of the bank wait to be dealt, or else fresh images and theirs."""
        first, batch = self.varied.count, self.settings.batch
        due = min(batch, self.settings.sources - first) if self.diffuser else 0
        if due and first < len(self.bank):
            sources = self.bank.rows(slice(first, first + due))
        else:
            sources = self._fresh(batch)
            self.waiting.add(sources)
        if self.diffuser and due:
            assert sources.y is not None
            self.waiting.add(self._variations(self.diffuser, sources.x[:due], sources.y[:due]))
            self.varied.count += min(due, len(sources.x))

    def _fresh(self, n: int) -> Batch:
        """n images of the host, each with its target, or, where the host has none, with the teacher's choice."""
        x, y, _ = self.host.synthesize(n)
        if y is None:
            with torch.no_grad():
                y = F.one_hot(self.problem.teacher(x).argmax(1), self.problem.classes).float()
        return Batch(x, y)

    def _variations(self, diffuser: Diffuser, x: Tensor, y: Tensor) -> Batch:
        """What the filter keeps of the variations of x [B, C, H, W], in network units, with their targets y [B, classes]."""
        inputs, k = self.problem.inputs, self.settings.variations
        images = inputs.to_unit(x).clamp(0, 1)
        with self.runtime.timed("variation"):
            made = diffuser.vary(images.repeat_interleave(k, 0), self.settings.diffusion.strength)
            made = made.view(len(images), k, *inputs.shape)
            similarity, kept = self.filter(images, made, y)
        self.shown.take(images, made, similarity, kept)
        tried = self.runtime.counts["variations"]
        if not self.runtime.counts["kept"] and (tried >= HOPELESS or self.varied.count + len(images) >= self.settings.sources):
            raise ValueError(
                f"The filter kept none of {tried} variations: omega is {self.settings.omega}, and "
                f"the largest cosine of the last ones {similarity.max():.2f}; lower --method.omega or "
                "--method.diffusion.strength, and leave --method.same-class out."
            )
        return Batch(inputs.to_network(made[kept]), y[:, None].expand(-1, k, -1)[kept])
