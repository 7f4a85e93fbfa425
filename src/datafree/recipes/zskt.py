"""Recipes of ZSKT."""

from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.common.generators import Latent
from datafree.methods.zskt import ZSKT
from datafree.recipes.plans import ADAM

ZSKT_RECIPES: dict[str, Recipe] = {
    "zskt-cifar10": Recipe(
        ZSKT(latent=Latent(size=100, generator="upsample-affine", width=128), batch=128, reuses=10, lr=1e-3, clip=5.0),
        Plan(
            rounds=80_000,
            steps=10,
            batch=128,
            lr=2e-3,
            clip=5.0,
            schedule="cosine",
            eval_every=800,
            grid_every=8000,
            **ADAM,
        ),
        "Micaelli and Storkey 2019, arXiv 1905.09768, CIFAR-10, settings of the authors' code",
    ),
    # Narrow generator, an eightieth of the batches, averaging: minutes on one core.
    "zskt-mnist-light": Recipe(
        ZSKT(latent=Latent(size=100, generator="upsample-affine", width=8), batch=128, reuses=10),
        Plan(
            rounds=1000,
            steps=10,
            batch=128,
            lr=2e-3,
            clip=5.0,
            schedule="cosine",
            ema_decay=0.99,
            eval_every=50,
            **ADAM,
        ),
        "ours, zskt-cifar10 made light for MNIST; docs/methods/zskt.md names each change",
    ),
}
