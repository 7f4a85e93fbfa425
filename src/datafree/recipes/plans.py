"""Plans and settings that the recipes of several methods share."""

from typing import Any

from datafree.data.augment import Augmentation
from datafree.engine.plan import Plan

AFFINE = Augmentation(shift=0.1, scale=0.1, degrees=10, jitter=0.5)
ADAM: dict[str, Any] = {"optimizer": "adam", "weight_decay": 0}


def set_plan(images: int, images_per_round: int, epochs: int, batch: int, **student: Any) -> Plan:
    """A plan that first makes a set of at least `images`, then trains the student on it for `epochs`, one epoch a round."""
    synthesis_rounds = -(-images // images_per_round)
    size = synthesis_rounds * images_per_round
    return Plan(
        rounds=synthesis_rounds + epochs,
        synthesis_rounds=synthesis_rounds,
        warmup=synthesis_rounds,
        images_per_round=images_per_round,
        pool_size=size,
        steps=-(-size // batch),
        batch=batch,
        schedule="cosine",
        log_every=5,
        save_every=10,
        eval_every=20,
        grid_every=100,
        **student,
    )
