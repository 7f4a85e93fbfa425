"""Recipes of DDA."""

from datafree.engine.method import Method
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.cmi import CMI
from datafree.methods.common.diffusion.diffuser import Diffusion
from datafree.methods.csd import CSD
from datafree.methods.dda import DDA
from datafree.methods.deepinversion import DeepInversion


def _dda_cifar(data: str, diffusion: Diffusion, model: str) -> Recipe:
    """80,000 images of CSD, at most 40,000 variations of the first 10,000, then 400 images a round as in CSD."""
    host = CSD(inversion={"batch": 200, "steps": 200}, warmup_images=80_000, warmup_steps=500)
    return Recipe(
        DDA(host=host, bank=80_000, batch=200, diffusion=diffusion),
        Plan(
            rounds=500,
            warmup=300,
            images_per_round=400,
            pool_size=500 * 400,
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
        f"Li et al. 2024, arXiv 2410.17606, {data}, settings of its code; {model}; 10,000 sources, omega and warmup (ours)",
    )


def _dda_light(host: Method) -> Recipe:
    """2,000 images and their variations, then 20 rounds of 100 images; takes minutes for a small teacher on one core."""
    return Recipe(
        DDA(
            host=host,
            bank=2000,
            batch=200,
            variations=2,
            sources=4000,
            diffusion=Diffusion(updates=500, batch=64, lr=2e-3, width=16, steps=16, strength=0.5),
            look={"augment": {"crop": 2, "flip": True}},
        ),
        Plan(
            rounds=80,
            warmup=60,
            images_per_round=100,
            pool_size=8000,
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
        "this package: DDA (arXiv 2410.17606) made small for CPUs; docs/methods/dda.md",
    )


DDA_RECIPES: dict[str, Recipe] = {
    "dda-csd-cifar10": _dda_cifar("CIFAR-10", Diffusion(), "a diffusion model trained on the bank (ours)"),
    "dda-csd-cifar100": _dda_cifar("CIFAR-100", Diffusion(), "a diffusion model trained on the bank (ours)"),
    "dda-csd-cifar10-sd": _dda_cifar(
        "CIFAR-10",
        Diffusion(pipeline="lambdalabs/sd-image-variations-diffusers", revision="v2.0", guidance=3.0, steps=25, batch=32),
        "Stable Diffusion image variations v2 as in its figure",
    ),
    "dda-deepinversion-light": _dda_light(DeepInversion(inversion={"batch": 200, "steps": 60, "lr": 0.2})),
    "dda-cmi-light": _dda_light(
        CMI(
            inversion={"batch": 200, "steps": 60, "lr": 3e-3},
            latent={"width": 32},
            negatives=512,
            memory_size=4096,
            adversary=0.5,
        )
    ),
    "dda-csd-light": _dda_light(
        CSD(inversion={"batch": 200, "steps": 60, "lr": 1e-2}, latent={"width": 32}, warmup_images=2000, warmup_steps=60)
    ),
}
