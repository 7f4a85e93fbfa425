"""Recipes of Fast-Datafree."""

from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.fast import Fast

_WARMUP, _ROUNDS = 20, 220  # what its code calls epochs

FAST_RECIPES: dict[str, Recipe] = {
    "fast-cifar10": Recipe(
        Fast(
            inversion={"batch": 256, "steps": 10, "lr": 2e-3, "cross_entropy": 0.4},
            noise_lr=0.01,
            adversary={"weight": 1.1, "rise_from": (_WARMUP - 1) / _ROUNDS, "rise_until": (_WARMUP - 1) / _ROUNDS},
            reset_first_layer_at=(_WARMUP + 119) / _ROUNDS,
        ),
        Plan(
            rounds=_ROUNDS,
            warmup=_WARMUP,
            images_per_round=256,
            pool_size=_ROUNDS * 256,
            steps=400,
            batch=256,
            lr=0.2,
            weight_decay=1e-4,
            schedule="cosine",
            log_every=1,
            save_every=5,
            eval_every=5,
            grid_every=20,
        ),
        "Fang et al. 2022, arXiv 2112.06253, WRN-40-2 on CIFAR-10, the authors' script with 10 steps; on CIFAR-100 alike",
    ),
    "fast-light": Recipe(
        Fast(
            inversion={"batch": 128, "steps": 5, "lr": 3e-3},
            latent={"size": 128, "width": 32},
            views={"crop": 2, "flip": True},
            look={"augment": {"crop": 2, "flip": True}, "mixup": 1.0},
        ),
        Plan(
            rounds=110,
            warmup=10,
            images_per_round=128,
            pool_size=20_000,
            steps=60,
            batch=64,
            lr=0.1,
            weight_decay=1e-4,
            schedule="cosine",
            log_every=1,
            save_every=10,
            eval_every=0,
            grid_every=0,
        ),
        "ours, for CPUs: Fast-Datafree (arXiv 2112.06253) made small; docs/methods/fast.md",
    ),
}
