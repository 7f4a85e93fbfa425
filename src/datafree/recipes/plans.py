"""Plans and settings that recipes of several methods share."""

from typing import Any

from datafree.augment import Augmentation
from datafree.plan import Plan

AFFINE = Augmentation(shift=0.1, scale=0.1, degrees=10, jitter=0.5)
ADAM = {"optimizer": "adam", "weight_decay": 0}


def set_plan(images: int, new: int, epochs: int, batch: int, **student: Any) -> Plan:
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
