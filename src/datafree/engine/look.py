"""How a student sees images and the teacher's logits for them: augmentation, and the distillation loss."""

import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor

from datafree.core.settings import Settings
from datafree.data.augment import Augmentation


class Look(Settings):
    """How the student sees images in its steps; the teacher gets the same augmented images."""

    temperature: PositiveFloat = 20.0
    """Divides the logits of both networks; the loss is multiplied by its square."""
    augment: Augmentation = Augmentation()
    """Random changes of an image, drawn anew each time it is seen."""


def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Knowledge distillation (Hinton et al., arXiv 1503.02531): T^2 KL(teacher / T || student / T).

    Both are raw logits with the classes in dim 1; mean over batch and positions, in fp32.
    """
    log_q = F.log_softmax(student.float() / temperature, dim=1)
    log_p = F.log_softmax(teacher.float() / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1).mean() * temperature**2
