"""Recipes of DFQ."""

from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.common.generators import Latent
from datafree.methods.dfq import DFQ
from datafree.recipes.plans import ADAM

_EPOCH = 40  # rounds: 400 student steps, ten a round


def _dfq_cifar(data: str) -> Recipe:
    """WRN-40-2 to WRN-16-1."""
    return Recipe(
        DFQ(latent=Latent(size=256, generator="upsample", width=128), batch=256, lr=1e-3),
        Plan(
            rounds=200 * _EPOCH,
            steps=10,
            batch=256,
            lr=0.1,
            weight_decay=1e-4,
            schedule="cosine",
            eval_every=_EPOCH,
        ),
        f"Choi et al. 2020, arXiv 2005.04136, {data}, as the code of Fast-Datafree (arXiv 2112.06253) runs it",
    )


DFQ_RECIPES: dict[str, Recipe] = {
    "dfq-cifar10": _dfq_cifar("CIFAR-10"),
    "dfq-cifar100": _dfq_cifar("CIFAR-100"),
    # A narrow generator, held more to statistics that count alike in every layer, Adam, averaging: minutes on one core.
    "dfq-light": Recipe(
        DFQ(latent=Latent(size=100, generator="upsample", width=16), batch=128, statistics=10, scale_free=True),
        Plan(
            rounds=300,
            steps=10,
            batch=128,
            lr=2e-3,
            schedule="cosine",
            ema_decay=0.99,
            eval_every=50,
            **ADAM,
        ),
        "ours, dfq-cifar10 made light for CPUs; docs/methods/dfq.md names each change",
    ),
}
