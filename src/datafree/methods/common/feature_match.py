"""What networks make of an image on the way to their answer: its embedding, and the last feature maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.distributed import parallel
from datafree.core.modes import evaluating
from datafree.core.runtime import Runtime
from datafree.engine.method import Problem
from datafree.networks.statistics import channel_means
from datafree.networks.taps import calls, last_maps, layer_inputs, layer_outputs
from datafree.networks.teacher import Teacher


class Embedding:
    """The teacher's penultimate feature [B, features] of x [B, C, H, W]: what enters its last layer, mean over positions."""

    def __init__(self, problem: Problem, runtime: Runtime):
        self.teacher = problem.teacher
        self.layer = calls(self.teacher.network, runtime.noise(2, *problem.inputs.shape))[-1].name

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and the answers [B, classes]."""
        with layer_inputs(self.teacher.network, self.layer) as inside:
            answer = self.teacher(x)
        return channel_means(inside[self.layer]), answer


class FeatureMatch:
    """Mean squared distance between the student's last feature maps, through a head, and the teacher's.

    The head is 1x1, norm, ReLU, 3x3, norm, ReLU, 1x1, of twice the teacher's channels (DDA, arXiv 2410.17606, its code). Maps
    of another size are pooled to the teacher's.
    """

    def __init__(self, problem: Problem, runtime: Runtime):
        self.teacher: Teacher = problem.teacher
        x = runtime.noise(2, *problem.inputs.shape)
        runtime.refuse_compiled("The feature term")
        with evaluating(problem.student):
            self.own, inside = last_maps(problem.student, x)
        self.theirs, outside = last_maps(self.teacher.network, x)
        width = 2 * outside
        self.align = nn.Sequential(
            *(nn.Conv2d(inside, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)),
            *(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)),
            nn.Conv2d(width, outside, 1),
        ).to(runtime.device)
        self.aligned = parallel(self.align)

    def __call__(self, student: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The teacher's answer and the student's, both [B, classes], and the distance, a scalar in fp32."""
        with torch.no_grad(), layer_outputs(self.teacher.network, self.theirs) as theirs:
            answer = self.teacher(x)
        with layer_outputs(student, self.own) as own:
            guess = student(x)
        target = theirs[self.theirs]
        maps = F.adaptive_avg_pool2d(own[self.own], (target.shape[2], target.shape[3]))
        return answer, guess, F.mse_loss(self.aligned(maps).float(), target.float())
