"""Recipes of NAYER."""

from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.nayer import NAYER

_WARMUP, _ROUNDS = 100, 400  # rounds of two batches: 20 epochs of ten batches, then 300 of two


def _nayer_cifar(data: str, steps: int) -> Recipe:
    """WRN-40-2 to WRN-16-2, 300 epochs."""
    return Recipe(
        NAYER(
            inversion={"batch": 400, "steps": steps, "lr": 4e-3},
            generator_life=20,
            adversary={"weight": 1.33, "rise_from": _WARMUP / _ROUNDS, "rise_until": _WARMUP / _ROUNDS},
        ),
        Plan(
            rounds=_ROUNDS,
            warmup=_WARMUP,
            images_per_round=800,
            pool_size=_ROUNDS * 800,
            steps=400,
            batch=512,
            lr=0.2,
            weight_decay=1e-4,
            schedule="cosine",
            log_every=1,
            save_every=5,
            eval_every=5,
            grid_every=20,
        ),
        f"Tran et al. 2024, arXiv 2310.00258, {data}, the authors' script of 300 epochs; embeddings by the classifier: ours",
    )


NAYER_RECIPES: dict[str, Recipe] = {
    "nayer-cifar10": _nayer_cifar("CIFAR-10", steps=30),
    "nayer-cifar100": _nayer_cifar("CIFAR-100", steps=40),
    "nayer-light": Recipe(
        NAYER(
            inversion={"batch": 200, "steps": 20, "lr": 4e-3},
            latent={"size": 256, "width": 32},
            views={"crop": 2, "flip": True},
            look={"augment": {"crop": 2, "flip": True}, "mixup": 1.0},
        ),
        Plan(
            rounds=110,
            warmup=10,
            images_per_round=200,
            pool_size=20_000,
            steps=40,
            batch=128,
            lr=0.1,
            weight_decay=1e-4,
            schedule="cosine",
            log_every=1,
            save_every=10,
            eval_every=0,
            grid_every=0,
        ),
        "ours, for CPUs: NAYER (arXiv 2310.00258) made small; docs/methods/nayer.md",
    ),
}
