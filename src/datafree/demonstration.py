"""The demo: a student without data in a minute, on scikit-learn's real handwritten digits."""

import importlib
import shutil
from pathlib import Path

import numpy as np
import torch

from datafree.architectures import build
from datafree.data import Labelled
from datafree.methods.stored import Stored
from datafree.network import Card, Network, parameters
from datafree.plan import Plan
from datafree.recipe import Recipe
from datafree.runtime import Runtime, one_thread
from datafree.setfile import noise_set
from datafree.teaching import Lesson, describe, teach
from datafree.verbs import distill, evaluate

TEACHER, STUDENT = "small-cnn", "small-cnn-half"
LESSON = Lesson(epochs=20, weight_decay=5e-3)  # a decayed teacher has small logits, which are easier to follow
NOISE_IMAGES = 4096
STUDENT_ON_NOISE = Plan(rounds=100, steps=20, batch=128, lr=0.05, schedule="cosine", save_every=100, eval_every=0, grid_every=0)


def digits() -> tuple[Labelled, Labelled]:
    """Scikit-learn's 1,797 handwritten digits, 8x8, as (train, held out), every fifth held out.

    Raises `ValueError` where scikit-learn is not installed.
    """
    try:
        sets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise ValueError("scikit-learn is not installed; pip install 'datafree[demo]'.") from error
    raw = sets.load_digits()
    pixels = torch.from_numpy((raw.images * (255 / 16)).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(raw.target.astype(np.int64))
    held = torch.arange(len(labels)) % 5 == 0
    name = "scikit-learn digits"
    return (
        Labelled(pixels[~held], labels[~held], 10, f"{name}, taught on"),
        Labelled(pixels[held], labels[held], 10, f"{name}, held out"),
    )


def show(seed: int, folder: Path) -> dict[str, float]:
    """Run the demo, print what happens, and return the three accuracies in percent."""
    with one_thread():
        return _show(seed, folder)


def _show(seed: int, folder: Path) -> dict[str, float]:
    shutil.rmtree(folder, ignore_errors=True)
    train, held = digits()
    inputs = describe(train)
    print(f"1. Teaching {TEACHER} on {len(train.labels):,} real digits ...", flush=True)
    runtime = Runtime("cpu", seed=seed)
    with runtime.seeded():
        module = teach(build(TEACHER, inputs, 10), train, inputs, LESSON, runtime)
    teacher = Network(module, Card(architecture=TEACHER, classes=10, inputs=inputs))
    teacher.save(folder / "teacher.safetensors")
    del train  # from here on nobody sees a training image

    print("2. Throwing the data away, and distilling a smaller student with DFAD ...", flush=True)
    student = distill(teacher, STUDENT, recipe="dfad-digits", out=folder / "run", device="cpu", seed=seed)

    print("3. For comparison, the same student taught on noise ...", flush=True)
    noise_set(inputs, NOISE_IMAGES, seed).save(folder / "noise.safetensors")
    recipe = Recipe(Stored(path=folder / "noise.safetensors"), STUDENT_ON_NOISE, "the noise baseline")
    from_noise = distill(teacher, STUDENT, recipe=recipe, out=folder / "run-noise", device="cpu", seed=seed, quiet=True)

    scores = {
        name: evaluate(network, held, inputs=inputs, device="cpu").accuracy
        for name, network in (("teacher", module), ("student", student), ("noise", from_noise))
    }
    big, small = parameters(module), parameters(student)
    print(f"\nAccuracy on {len(held.labels)} real digits that nobody was taught on:")
    print(f"  teacher            {scores['teacher']:5.1f} %   {big:,} weights, taught on real digits")
    print(
        f"  student            {scores['student']:5.1f} %   {small:,} weights ({big / small:.0f}x fewer), taught without data"
    )
    print(f"  student on noise   {scores['noise']:5.1f} %   the same student, taught on noise")
    print(f"\nThe run's folder: {folder / 'run'}  (images/ shows what the student looked at)")
    return scores
