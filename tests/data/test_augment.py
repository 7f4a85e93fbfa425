"""Mixing images in pairs."""

import torch

from datafree.data.augment import random_mix
from datafree.engine.look import Look

N, SIDE = 400, 16


def flat_images() -> torch.Tensor:
    """Images whose every pixel is their own number."""
    return torch.arange(N, dtype=torch.float32).view(N, 1, 1, 1).expand(N, 1, SIDE, SIDE).contiguous()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_mixup_blends_whole_images_and_cutmix_puts_in_rectangles() -> None:
    x = flat_images()
    blended, cut = random_mix(x, 1.0, 0.0, generator()), random_mix(x, 0.0, 1.0, generator())
    assert (blended.amax((1, 2, 3)) - blended.amin((1, 2, 3))).max() < 1e-3, "every pixel of an image in one proportion"
    assert (blended[:, 0, 0, 0] - x[:, 0, 0, 0]).abs().max() > 10
    shares = []
    for image, own in zip(cut[:, 0], x[:, 0], strict=True):
        foreign = image != own
        assert len(image.unique()) <= 2
        rows, columns = foreign.any(1).nonzero(), foreign.any(0).nonzero()
        if foreign.any():
            box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert len(box.unique()) == 1, "a rectangle of one other image"
        shares.append(foreign.float().mean().item())
    assert 0.2 < sum(shares) / N < 0.5  # uniform areas, less what lies outside
    assert max(shares) > 0.7


def test_shares_are_of_images_and_the_others_stay_as_they_are() -> None:
    x = flat_images()
    mixed = random_mix(x, 0.25, 0.5, generator())
    changed = (mixed != x).flatten(1)
    whole, part = changed.all(1).float().mean().item(), (changed.any(1) & ~changed.all(1)).float().mean().item()
    assert 0.15 < whole < 0.4
    assert 0.35 < part < 0.6
    assert (~changed.any(1)).float().mean().item() > 0.15


def test_a_look_without_mixing_draws_no_numbers_for_it() -> None:
    random, x = generator(), flat_images()
    before = random.get_state()
    assert Look()(x, random) is x
    assert torch.equal(before, random.get_state())
