"""Features inside the networks: the teacher's embedding of an image, and the distance of the last feature maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.distributed import parallel
from datafree.core.modes import evaluating
from datafree.core.runtime import Runtime
from datafree.engine.method import Problem
from datafree.networks.inside.statistics import channel_means
from datafree.networks.inside.taps import calls, last_maps, layer_inputs, layer_outputs
from datafree.networks.teacher import Teacher


class Embedding:
    """The teacher's penultimate features: the input of its last layer, averaged over positions."""

    def __init__(self, problem: Problem, runtime: Runtime):
        self.teacher = problem.teacher
        self.layer = calls(self.teacher.network, runtime.noise(2, *problem.inputs.shape))[-1].name

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, features] and logits [B, classes] of x [B, C, H, W], network units."""
        with layer_inputs(self.teacher.network, self.layer) as values:
            logits = self.teacher(x)
        return channel_means(values[self.layer]), logits


class FeatureMatch:
    """Mean squared distance between the student's last feature maps, passed through a head, and those of the teacher.

    The head is 1x1, norm, ReLU, 3x3, norm, ReLU, 1x1, with twice the teacher's channels (the code of DDA, arXiv 2410.17606).
    Student maps of another size are pooled to the teacher's. Raises `ValueError` if a network has no feature maps, or if the
    run uses torch.compile.
    """

    def __init__(self, problem: Problem, runtime: Runtime):
        self.teacher: Teacher = problem.teacher
        x = runtime.noise(2, *problem.inputs.shape)
        runtime.refuse_compiled("The feature term")
        with evaluating(problem.student):
            self.student_layer, student_channels = last_maps(problem.student, x)
        self.teacher_layer, teacher_channels = last_maps(self.teacher.network, x)
        width = 2 * teacher_channels
        self.align = nn.Sequential(
            *(nn.Conv2d(student_channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)),
            *(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)),
            nn.Conv2d(width, teacher_channels, 1),
        ).to(runtime.device)
        self.trainable_align = parallel(self.align)

    def __call__(self, student: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of teacher and student for x, [B, classes] each, and the distance, a scalar in fp32."""
        with torch.no_grad(), layer_outputs(self.teacher.network, self.teacher_layer) as outputs:
            teacher_logits = self.teacher(x)
        target = outputs[self.teacher_layer]
        with layer_outputs(student, self.student_layer) as outputs:
            student_logits = student(x)
        maps = F.adaptive_avg_pool2d(outputs[self.student_layer], (target.shape[2], target.shape[3]))
        return teacher_logits, student_logits, F.mse_loss(self.trainable_align(maps).float(), target.float())
