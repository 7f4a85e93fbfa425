"""Pictures of a run: its newest images and, for segmentation, the masks that both networks predict."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from datafree.data.drawing import painted, palette
from datafree.data.images import fit
from datafree.data.labelled import Labelled
from datafree.engine.method import Problem
from datafree.reports.metrics import predictions

SHOWN = 12  # rows of images with masks
Sheet = tuple[Tensor, int | None]  # pictures, uint8 [N, C, H, W], and their number in a row (None: a square grid)


def only_images(problem: Problem, pixels: Tensor, colours: Tensor | None) -> Sheet:
    """The images, uint8 [N, C, H, W], without masks."""
    return pixels, None


def images_and_masks(problem: Problem, pixels: Tensor, colours: Tensor | None) -> Sheet:
    """Some of the images, uint8 [N, C, H, W], each with the masks that the teacher and the student predict."""
    shown = pixels[:SHOWN]
    colours = palette(problem.classes) if colours is None else colours
    masks = [painted(_mask(problem, network, shown), colours) for network in (problem.teacher.network, problem.student)]
    return _rows(shown, *masks), 6


DRAWINGS: dict[str, Callable[[Problem, Tensor, Tensor | None], Sheet]] = {
    "classification": only_images,
    "segmentation": images_and_masks,
}


def evaluation_sheet(problem: Problem, data: Labelled) -> Sheet:
    """Some images, spread over `data`, each with its true mask and those that the teacher and the student predict."""
    rows = torch.linspace(0, len(data.pixels) - 1, min(SHOWN, len(data.pixels))).round().long()
    colours = palette(data.classes) if data.colours is None else data.colours
    truth = painted(data.labels[rows], colours, data.void)
    networks = (problem.teacher.network, problem.student)
    masks = [painted(_mask(problem, network, data.pixels[rows]), colours) for network in networks]
    return _rows(data.pixels[rows], truth, *masks), 8


def _mask(problem: Problem, network: nn.Module, pixels: Tensor) -> Tensor:
    return predictions(network, pixels, problem.inputs, problem.teacher.runtime.device)


def _rows(images: Tensor, *others: Tensor) -> Tensor:
    """Each image followed by its pictures in `others`, [N x (1 + others), 3, H, W]."""
    colour = fit(images.cpu(), (3, images.shape[2], images.shape[3]))
    return torch.stack([colour, *others], dim=1).flatten(0, 1)
