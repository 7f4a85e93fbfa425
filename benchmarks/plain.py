"""The paper's loop written plainly, to measure against: gradients on everywhere, default layout, a separate upsampling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainUpsampleGenerator(nn.Module):
    """DFAD's generator A as the paper describes it."""

    def __init__(self, shape: tuple[int, int, int], latent: int, width: int):
        super().__init__()
        channels, height, wide = shape
        self.base = (width, height // 4, wide // 4)
        self.project = nn.Linear(latent, width * self.base[1] * self.base[2])
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.BatchNorm2d(width // 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width // 2, channels, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(channels, affine=False),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.project(z).view(-1, *self.base))  # type: ignore[no-any-return]


class PlainDFAD:
    """One round: five student steps on fresh fakes, then one generator step (arXiv 1912.11006 and its code)."""

    def __init__(self, teacher: nn.Module, student: nn.Module, generator: nn.Module, latent: int, batch: int, steps: int):
        self.teacher, self.student, self.generator = teacher.eval(), student.train(), generator.train()
        self.latent, self.batch, self.steps = latent, batch, steps
        self.student_optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
        self.generator_optimizer = torch.optim.Adam(generator.parameters(), 1e-3)

    def round(self) -> None:
        """Some steps of the student, then one of the generator."""
        for _ in range(self.steps):
            fake = self.generator(torch.randn(self.batch, self.latent)).detach()
            target = self.teacher(fake)
            self.student_optimizer.zero_grad()
            F.l1_loss(self.student(fake), target.detach()).backward()
            self.student_optimizer.step()
        fake = self.generator(torch.randn(self.batch, self.latent))
        self.generator_optimizer.zero_grad()
        (-F.l1_loss(self.student(fake), self.teacher(fake))).backward()
        self.generator_optimizer.step()


class PlainInversion:
    """Inversion steps as public code writes them: hooks on every batch norm, the teacher's weights collecting gradients, the
    loss read on the host each step. The loss is cross-entropy to soft targets plus the statistics' distances
    (DeepInversion, arXiv 1912.08795, section 3.2).
    """

    def __init__(self, teacher: nn.Module, targets: Tensor, shape: tuple[int, int, int], temperature: float):
        self.teacher, self.targets, self.temperature = teacher.eval(), targets, temperature
        self.x = torch.randn(len(targets), *shape, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.x], lr=0.1)
        self.distances: list[Tensor] = []
        for layer in teacher.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_hook(self._measure)
        self.best, self.least = self.x.detach().clone(), float("inf")

    def _measure(self, layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean = inputs[0].mean([0, 2, 3])
        variance = inputs[0].permute(1, 0, 2, 3).reshape(inputs[0].shape[1], -1).var(1, unbiased=False)
        self.distances.append((mean - layer.running_mean).norm(2) + (variance - layer.running_var).norm(2))

    def step(self) -> None:
        """One Adam step on the images."""
        self.distances = []
        self.optimizer.zero_grad()
        answer = self.teacher(self.x)
        match = -(self.targets * F.log_softmax(answer / self.temperature, dim=1)).sum(1).mean()
        loss = match + torch.stack(self.distances).sum() if self.distances else match
        if loss.item() < self.least:
            self.least, self.best = loss.item(), self.x.detach().clone()
        loss.backward()
        self.optimizer.step()


class PlainDistillation:
    """Student steps on stored images: the teacher runs without a graph, batches are drawn from floats."""

    def __init__(self, teacher: nn.Module, student: nn.Module, images: Tensor, batch: int, temperature: float):
        self.teacher, self.student, self.images = teacher, student.train(), images
        self.batch, self.temperature = batch, temperature
        self.optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)

    def step(self) -> None:
        """One SGD step on a random batch."""
        x = self.images[torch.randint(len(self.images), (self.batch,))]
        with torch.no_grad():
            target = F.softmax(self.teacher(x) / self.temperature, dim=1)
        loss = F.kl_div(F.log_softmax(self.student(x) / self.temperature, dim=1), target, reduction="none").sum(1).mean()
        self.optimizer.zero_grad()
        (loss * self.temperature**2).backward()
        self.optimizer.step()
