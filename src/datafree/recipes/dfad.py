"""Recipes of DFAD."""

from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.common.generators import Latent
from datafree.methods.dfad import DFAD

_DFAD = "Fang et al. 2019, arXiv 1912.11006, settings of the authors' code"
_EPOCH = 50  # rounds of an epoch in DFAD's code


def _dfad_cifar(data: str) -> Recipe:
    """ResNet-34 to ResNet-18."""
    return Recipe(
        DFAD(latent=Latent(size=256, generator="upsample", width=128), batch=256, lr=1e-3),
        Plan(
            rounds=500 * _EPOCH,
            steps=5,
            batch=256,
            lr=0.1,
            weight_decay=5e-4,
            schedule="steps",
            milestones=(100 * _EPOCH, 200 * _EPOCH),
            eval_every=_EPOCH,
        ),
        f"{_DFAD}, {data}",
    )


def _dfad_street(data: str, weight_decay: float, decay: float) -> Recipe:
    """DeepLabV3 on ResNet-50 to DeepLabV3 on MobileNetV2, 128x128."""
    return Recipe(
        DFAD(latent=Latent(size=256, generator="dcgan", width=64), batch=64, lr=1e-3, objective="log-gap"),
        Plan(
            rounds=300 * _EPOCH,
            steps=5,
            batch=64,
            lr=0.1,
            weight_decay=weight_decay,
            schedule="steps",
            milestones=(100 * _EPOCH, 200 * _EPOCH),
            decay=decay,
            eval_every=_EPOCH,
        ),
        f"{_DFAD}, {data}",
    )


DFAD_RECIPES: dict[str, Recipe] = {
    "dfad-digits": Recipe(
        DFAD(latent=Latent(size=32, generator="upsample", width=16), batch=128, lr=1e-3),
        Plan(
            rounds=150, steps=10, batch=128, lr=0.1, schedule="cosine", ema_decay=0.99, log_every=5, eval_every=0, save_every=50
        ),
        "this package: 8x8 digits in seconds, for the demo",
    ),
    "dfad-mnist": Recipe(
        DFAD(latent=Latent(size=100, generator="upsample", width=128), batch=512, lr=1e-3),
        Plan(rounds=40 * _EPOCH, steps=5, batch=512, lr=0.01, weight_decay=1e-4, eval_every=_EPOCH),
        f"{_DFAD}, MNIST",
    ),
    # A narrow generator, smaller batches, twice the student's steps and learning rate, cosine, EMA: minutes on a laptop.
    "dfad-mnist-light": Recipe(
        DFAD(latent=Latent(size=100, generator="upsample", width=8), batch=128, lr=1e-3),
        Plan(
            rounds=20 * _EPOCH,
            steps=10,
            batch=128,
            lr=0.02,
            weight_decay=1e-4,
            schedule="cosine",
            ema_decay=0.99,
            eval_every=_EPOCH,
        ),
        "this package: dfad-mnist made light; docs/methods/dfad.md lists each change",
    ),
    "dfad-cifar10": _dfad_cifar("CIFAR-10"),
    "dfad-cifar100": _dfad_cifar("CIFAR-100"),
    "dfad-caltech101": Recipe(
        DFAD(latent=Latent(size=256, generator="dcgan", width=64), batch=64, lr=1e-3),
        Plan(
            rounds=300 * _EPOCH,
            steps=5,
            batch=64,
            lr=0.05,
            weight_decay=5e-4,
            schedule="steps",
            milestones=(100 * _EPOCH, 200 * _EPOCH),
            eval_every=_EPOCH,
        ),
        f"{_DFAD}, Caltech101",
    ),
    "dfad-camvid": _dfad_street("CamVid", weight_decay=5e-4, decay=0.1),
    "dfad-nyuv2": _dfad_street("NYUv2", weight_decay=5e-5, decay=0.3),
    # The other generator, narrow, with the statistics term; small batches, cosine, EMA: minutes on one core.
    "dfad-camvid-light": Recipe(
        DFAD(latent=Latent(size=128, generator="upsample", width=32), batch=16, lr=1e-3, objective="log-gap", statistics=1.0),
        Plan(
            rounds=1500,
            steps=5,
            batch=16,
            lr=0.1,
            weight_decay=5e-4,
            schedule="cosine",
            ema_decay=0.99,
            eval_every=0,
            save_every=100,
        ),
        "this package: dfad-camvid made light; docs/methods/dfad.md lists each change",
    ),
}
