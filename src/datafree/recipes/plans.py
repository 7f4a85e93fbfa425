"""Plans and settings that recipes of several methods share."""

from typing import Any

from datafree.data.augment import Augmentation
from datafree.engine.plan import Plan

AFFINE = Augmentation(shift=0.1, scale=0.1, degrees=10, jitter=0.5)
ADAM: dict[str, Any] = {"optimizer": "adam", "weight_decay": 0}


def set_plan(images: int, images_per_round: int, epochs: int, batch: int, **student: Any) -> Plan:
    """Fill a set with `images`, then train on it, an epoch a round."""
    filling = -(-images // images_per_round)
    size = filling * images_per_round
    return Plan(
        rounds=filling + epochs,
        synthesis_rounds=filling,
        warmup=filling,
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
