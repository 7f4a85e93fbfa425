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
        """Both players move."""
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
