"""Recipes of STTSS."""

from datafree.data.augment import Augmentation
from datafree.engine.look import Look
from datafree.engine.recipe import Recipe
from datafree.methods.sttss import STTSS
from datafree.recipes.plans import ADAM, AFFINE, set_plan

STTSS_RECIPES: dict[str, Recipe] = {
    "sttss-mnist": Recipe(
        STTSS(sigma=1.5, activation=0.05, inversion={"batch": 100, "steps": 1500, "lr": 1e-3}, look={"temperature": 20}),
        set_plan(24_000, images_per_round=100, epochs=200, batch=512, lr=1e-3, **ADAM),
        "Wang 2021, arXiv 2104.04868, LeNet-5 on MNIST; our choices where the paper leaves them open: docs/methods/sttss.md",
    ),
    # A fifteenth of the inversion's steps with thirty times the learning rate, from clouds and without the activation term;
    # jitter; small batches. Chosen on a held-out part of the training set.
    "sttss-mnist-light": Recipe(
        STTSS(
            sigma=1.5,
            activation=0,
            noise="clouds",
            inversion={"batch": 100, "steps": 100, "lr": 0.03},
            look=Look(temperature=20, augment=AFFINE),
        ),
        set_plan(24_000, images_per_round=100, epochs=160, batch=64, lr=2e-3, **ADAM),
        "this package: sttss-mnist made light; docs/methods/sttss.md lists each change",
    ),
    "sttss-cifar10": Recipe(
        STTSS(
            sigma=2.0,
            activation=0.1,
            inversion={"batch": 100, "steps": 1500, "lr": 1e-3},
            look=Look(temperature=20, augment=Augmentation(shift=0.1, scale=0.1, degrees=10, flip=True)),
        ),
        set_plan(40_000, images_per_round=100, epochs=200, batch=512, lr=1e-3, **ADAM),
        "Wang 2021, arXiv 2104.04868, AlexNet on CIFAR-10; our choices where the paper leaves them open: docs/methods/sttss.md",
    ),
}
