"""Named settings with their source."""

from pathlib import Path
from typing import Any

from datafree.augment import Augmentation
from datafree.diffusion.diffuser import Diffusion
from datafree.method import Method
from datafree.methods.cmi import CMI
from datafree.methods.csd import CSD
from datafree.methods.dda import DDA
from datafree.methods.deepinversion import DeepInversion
from datafree.methods.dfad import DFAD
from datafree.methods.stored import Stored
from datafree.methods.sttss import STTSS
from datafree.plan import Plan
from datafree.recipe import Recipe

_DFAD = "Fang et al. 2019, arXiv 1912.11006, settings of the authors' code"
_EPOCH = 50  # rounds: what DFAD's code calls an epoch


def _dfad_cifar(data: str) -> Recipe:
    """ResNet-34 to ResNet-18."""
    return Recipe(
        DFAD(latent=256, generator="upsample", width=128, batch=256, lr=1e-3),
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


def _set_plan(images: int, new: int, epochs: int, batch: int, **student: Any) -> Plan:
    """Fill a set with `images`, `new` a round, then train on it, an epoch a round."""
    fill = -(-images // new)
    return Plan(
        rounds=fill + epochs,
        fill=fill,
        warmup=fill,
        new=new,
        keep=fill * new,
        steps=-(-fill * new // batch),
        batch=batch,
        schedule="cosine",
        log_every=5,
        save_every=10,
        eval_every=20,
        grid_every=100,
        **student,
    )


def _dda_cifar(data: str, diffusion: Diffusion, model: str) -> Recipe:
    """CSD's images and the bank's variations: 80,000 images, up to 40,000 variations, then 400 a round as CSD."""
    return Recipe(
        DDA(host=CSD(batch=200, first=80_000, first_steps=500, steps=200), bank=80_000, batch=200, diffusion=diffusion),
        Plan(
            rounds=500,
            warmup=300,
            new=400,
            keep=500 * 400,
            steps=2000,
            batch=128,
            lr=0.1,
            weight_decay=1e-4,
            schedule="cosine",
            log_every=1,
            save_every=5,
            eval_every=5,
            grid_every=20,
        ),
        f"Li et al. 2024, arXiv 2410.17606, {data}, its code's settings; {model}; 10,000 sources, omega, warmup: ours",
    )


def _dda_light(host: Method) -> Recipe:
    """2,000 images and their variations, then 20 rounds of 100 images each; minutes for a small teacher on one core."""
    return Recipe(
        DDA(
            host=host,
            bank=2000,
            batch=200,
            variations=2,
            sources=4000,
            diffusion=Diffusion(updates=500, batch=64, lr=2e-3, width=16, steps=16, strength=0.5),
            augment=Augmentation(crop=2, flip=True),
        ),
        Plan(
            rounds=80,
            warmup=60,
            new=100,
            keep=8000,
            steps=100,
            batch=64,
            lr=0.05,
            weight_decay=1e-4,
            schedule="cosine",
            log_every=1,
            save_every=5,
            eval_every=0,
            grid_every=0,
        ),
        "ours, for CPUs: DDA (arXiv 2410.17606) made small; docs/methods/dda.md",
    )


def _dfad_street(data: str, weight_decay: float, decay: float) -> Recipe:
    """DeepLabV3 on ResNet-50 to DeepLabV3 on MobileNetV2, 128x128."""
    return Recipe(
        DFAD(latent=256, generator="dcgan", width=64, batch=64, lr=1e-3, objective="log-gap"),
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


_AFFINE = Augmentation(shift=0.1, scale=0.1, degrees=10, jitter=0.5)
_ADAM = {"optimizer": "adam", "weight_decay": 0}

RECIPES: dict[str, Recipe] = {
    "dfad-digits": Recipe(
        DFAD(latent=32, generator="upsample", width=16, batch=128, lr=1e-3),
        Plan(
            rounds=150, steps=10, batch=128, lr=0.1, schedule="cosine", average=0.99, log_every=5, eval_every=0, save_every=50
        ),
        "ours, for the demo: 8x8 digits in seconds",
    ),
    "dfad-mnist": Recipe(
        DFAD(latent=100, generator="upsample", width=128, batch=512, lr=1e-3),
        Plan(rounds=40 * _EPOCH, steps=5, batch=512, lr=0.01, weight_decay=1e-4, eval_every=_EPOCH),
        f"{_DFAD}, MNIST",
    ),
    # Narrow generator, smaller batch, twice the student's steps and rate, cosine, averaging: minutes on a laptop.
    "dfad-mnist-light": Recipe(
        DFAD(latent=100, generator="upsample", width=16, batch=128, lr=1e-3),
        Plan(
            rounds=20 * _EPOCH,
            steps=10,
            batch=128,
            lr=0.02,
            weight_decay=1e-4,
            schedule="cosine",
            average=0.99,
            eval_every=_EPOCH,
        ),
        "ours, dfad-mnist made light; docs/methods/dfad.md names each change",
    ),
    "dfad-cifar10": _dfad_cifar("CIFAR-10"),
    "dfad-cifar100": _dfad_cifar("CIFAR-100"),
    "dfad-caltech101": Recipe(
        DFAD(latent=256, generator="dcgan", width=64, batch=64, lr=1e-3),
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
    # Narrow generator, small batches, cosine, averaging: an hour on one core at 64x64.
    "dfad-camvid-light": Recipe(
        DFAD(latent=128, generator="dcgan", width=16, batch=16, lr=1e-3, objective="log-gap"),
        Plan(
            rounds=1500,
            steps=5,
            batch=16,
            lr=0.05,
            weight_decay=5e-4,
            schedule="cosine",
            average=0.99,
            eval_every=0,
            save_every=100,
        ),
        "ours, dfad-camvid made light; docs/methods/dfad.md names each change",
    ),
    "sttss-mnist": Recipe(
        STTSS(sigma=1.5, activation=0.05, temperature=20, batch=100, steps=1500, lr=1e-3),
        _set_plan(24_000, new=100, epochs=200, batch=512, lr=1e-3, **_ADAM),
        "Wang 2021, arXiv 2104.04868, LeNet-5 on MNIST; what the paper leaves open is ours, docs/methods/sttss.md",
    ),
    # A fifteenth of the inversion's steps, each thirty times as long, from clouds of noise and without the activation term;
    # jitter; small batches. Chosen on a held-out part of the training set.
    "sttss-mnist-light": Recipe(
        STTSS(
            sigma=1.5,
            activation=0,
            temperature=20,
            batch=100,
            noise="clouds",
            steps=100,
            lr=0.03,
            augment=_AFFINE,
        ),
        _set_plan(24_000, new=100, epochs=160, batch=64, lr=2e-3, **_ADAM),
        "ours, sttss-mnist made light; docs/methods/sttss.md names each change",
    ),
    "sttss-cifar10": Recipe(
        STTSS(
            sigma=2.0,
            activation=0.1,
            temperature=20,
            batch=100,
            steps=1500,
            lr=1e-3,
            augment=Augmentation(shift=0.1, scale=0.1, degrees=10, flip=True),
        ),
        _set_plan(40_000, new=100, epochs=200, batch=512, lr=1e-3, **_ADAM),
        "Wang 2021, arXiv 2104.04868, AlexNet on CIFAR-10; what the paper leaves open is ours, docs/methods/sttss.md",
    ),
    "deepinversion-cifar10": Recipe(
        DeepInversion(batch=256, steps=2000, lr=0.05, statistics=10, variation=2.5e-5),
        _set_plan(50_000, new=256, epochs=200, batch=128, lr=0.1),
        "Yin et al. 2020, arXiv 1912.08795, ResNet-34 on CIFAR-10 with its code's parameters; 50,176 images and the plan: ours",
    ),
    "cmi-cifar10": Recipe(
        CMI(adversary=0.5),
        Plan(
            rounds=200,
            new=256,
            keep=200 * 256,
            steps=400,
            batch=128,
            lr=0.1,
            weight_decay=1e-4,
            schedule="steps",
            milestones=(120, 150, 180),
            log_every=1,
            save_every=5,
            eval_every=5,
            grid_every=20,
        ),
        "Fang et al. 2021, arXiv 2105.08584, WRN-40-2 on CIFAR-10, the authors' script from scratch",
    ),
    "csd-cifar10": Recipe(
        CSD(batch=200, first=80_000, first_steps=500, steps=200),
        Plan(
            rounds=400,
            warmup=200,
            new=400,
            keep=400 * 400,
            steps=2000,
            batch=128,
            lr=0.1,
            weight_decay=1e-4,
            schedule="cosine",
            log_every=1,
            save_every=2,
            eval_every=5,
            grid_every=20,
        ),
        "Luo et al. 2023, arXiv 2307.04542, WRN-40-2 on CIFAR-10, as the code of DDA (arXiv 2410.17606) runs it",
    ),
    "dda-csd-cifar10": _dda_cifar("CIFAR-10", Diffusion(), "a diffusion model trained on the bank: ours"),
    "dda-csd-cifar100": _dda_cifar("CIFAR-100", Diffusion(), "a diffusion model trained on the bank: ours"),
    "dda-csd-cifar10-sd": _dda_cifar(
        "CIFAR-10",
        Diffusion(pipeline="lambdalabs/sd-image-variations-diffusers", revision="v2.0", guidance=3.0, steps=25, batch=32),
        "Stable Diffusion image variations v2 as in its figure",
    ),
    "dda-deepinversion-light": _dda_light(DeepInversion(batch=200, steps=60, lr=0.2)),
    "dda-cmi-light": _dda_light(CMI(batch=200, steps=60, lr=3e-3, width=32, negatives=512, bank=4096, adversary=0.5)),
    "dda-csd-light": _dda_light(CSD(batch=200, first=2000, first_steps=60, steps=60, lr=1e-2, width=32)),
    "stored-mnist": Recipe(
        Stored(path=Path("set.safetensors"), temperature=4.0, augment=Augmentation(crop=2)),
        Plan(
            rounds=100,
            steps=100,
            batch=128,
            lr=0.01,
            weight_decay=1e-4,
            schedule="cosine",
            log_every=2,
            save_every=10,
            eval_every=10,
            grid_every=0,
        ),
        "ours: plain distillation (Hinton et al. 2015, arXiv 1503.02531) on a stored set",
    ),
    "stored-sttss-mnist": Recipe(
        Stored(path=Path("set.safetensors"), temperature=20, augment=_AFFINE),
        Plan(
            rounds=160,
            steps=375,
            batch=64,
            lr=2e-3,
            schedule="cosine",
            log_every=5,
            save_every=10,
            eval_every=20,
            grid_every=0,
            **_ADAM,
        ),
        "ours: the student's half of sttss-mnist-light, for a set that was synthesised before",
    ),
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises `ValueError` with the names there are."""
    if name not in RECIPES:
        raise ValueError(f"No recipe is named {name!r}; there are: {', '.join(RECIPES)}.")
    return RECIPES[name]
