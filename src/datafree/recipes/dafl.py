"""Recipes of DAFL."""

import math

from datafree.engine.look import Look
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.common.generators import Latent
from datafree.methods.dafl import DAFL
from datafree.recipes.plans import ADAM, AFFINE

_DAFL = "Chen et al. 2019, arXiv 1904.01186, settings of the authors' code"
_STEPS = 10  # in a round; how many changes nothing but the memory
_EPOCH = 120 // _STEPS  # rounds: what DAFL's code calls an epoch


def _dafl_cifar(data: str, cross_entropy: float, balance: float, activation: float) -> Recipe:
    """ResNet-34 to ResNet-18; `balance` is the weight of a logarithm to base 10, as in the paper."""
    return Recipe(
        DAFL(
            latent=Latent(size=1000, generator="upsample", width=128),
            batch=1024,
            lr=0.02,
            cross_entropy=cross_entropy,
            balance=balance / math.log(10),
            activation=activation,
        ),
        Plan(
            rounds=2000 * _EPOCH,
            steps=_STEPS,
            batch=1024,
            lr=0.1,
            weight_decay=5e-4,
            schedule="steps",
            milestones=(800 * _EPOCH, 1600 * _EPOCH),
            eval_every=10 * _EPOCH,
        ),
        f"{_DAFL}, {data}",
    )


DAFL_RECIPES: dict[str, Recipe] = {
    "dafl-mnist": Recipe(
        DAFL(latent=Latent(size=100, generator="upsample", width=128), batch=512, lr=0.2),
        Plan(rounds=200 * _EPOCH, steps=_STEPS, batch=512, lr=2e-3, eval_every=_EPOCH, **ADAM),
        f"{_DAFL}, MNIST",
    ),
    # A narrow, slower generator, small batches drawn from a pool and augmented, cosine, averaging: minutes on one core.
    "dafl-mnist-light": Recipe(
        DAFL(
            latent=Latent(size=100, generator="upsample", width=8),
            batch=128,
            lr=0.01,
            look=Look(temperature=4.0, augment=AFFINE),
        ),
        Plan(
            rounds=500,
            images_per_round=640,
            pool_size=12_800,
            steps=10,
            batch=128,
            lr=2e-3,
            schedule="cosine",
            ema_decay=0.99,
            eval_every=50,
            **ADAM,
        ),
        "ours, dafl-mnist made light; docs/methods/dafl.md names each change",
    ),
    "dafl-cifar10": _dafl_cifar("CIFAR-10", cross_entropy=0.05, balance=5, activation=0.01),
    "dafl-cifar100": _dafl_cifar("CIFAR-100", cross_entropy=0.5, balance=20, activation=0.1),
}
