"""The function `demo`: a student distilled without data in a minute, from a teacher of scikit-learn's digits."""

from pathlib import Path

from datafree.api.distill import distill
from datafree.api.evaluate import evaluate
from datafree.api.teach import teach
from datafree.api.validate import validate
from datafree.core.files import is_temporary, remove, write_text
from datafree.core.runtime import one_thread
from datafree.core.terminal import show
from datafree.data.digits import digits
from datafree.data.sets import noise_set
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.engine.record import read_record
from datafree.engine.supervised import Training
from datafree.estimation.conclusion import Interval
from datafree.methods.stored import Stored
from datafree.networks.saved.weights import parameters

TEACHER, STUDENT = "small-cnn", "small-cnn-half"
TRAINING = Training(epochs=20, weight_decay=5e-3)  # strong weight decay gives the teacher small logits, easy to match
MARK = "demo.txt"  # the file by which a folder is known as a demo's
NOTE = "This folder is made by `datafree demo`, which deletes what is in it when it starts again.\n"
NOISE_IMAGES = 4096
STUDENT_ON_NOISE = Plan(rounds=100, steps=20, batch=128, lr=0.05, schedule="cosine", save_every=100, eval_every=0, grid_every=0)


def demo(seed: int = 0, out: str | Path | None = None) -> dict[str, float]:
    """Train a small teacher on scikit-learn's digits, discard them, distil a smaller student with DFAD, print their accuracy.

    Args:
        seed: seed of the teacher and of the students.
        out: folder for the teacher, the run and the baseline; what an earlier demo left there is deleted first; None:
            runs/demo-SEED.

    Returns:
        Accuracy in percent of `teacher`, `student`, and `noise`, the same student distilled on noise.

    Raises:
        ValueError: scikit-learn is not installed, or `out` holds files that are not a demo's.
        OSError: a file cannot be written.
        Interrupted: asked to stop (Ctrl-C, SIGTERM).
    """
    folder = Path("runs") / f"demo-{seed}" if out is None else Path(out)
    with one_thread():
        return _demo(seed, folder)


def _demo(seed: int, folder: Path) -> dict[str, float]:
    _clear(folder)
    train, test = digits()
    show(f"1. Training the teacher {TEACHER} on {len(train.labels):,} real digits ...")
    teacher = teach(train, TEACHER, training=TRAINING, device="cpu", seed=seed, quiet=True)
    teacher = validate(teacher, test, device="cpu")
    teacher.save(folder / "teacher.safetensors")
    inputs, module = teacher.card.inputs, teacher.module
    del train  # no step from here on uses a training image

    show("2. Discarding the data, and distilling a smaller student with DFAD ...")
    student = distill(teacher, STUDENT, recipe="dfad-digits", out=folder / "run", device="cpu", seed=seed)

    show("3. For comparison, the same student distilled on noise ...")
    noise_set(inputs, NOISE_IMAGES, seed).save(folder / "noise.safetensors")
    recipe = Recipe(Stored(path=folder / "noise.safetensors"), STUDENT_ON_NOISE, "the noise baseline")
    from_noise = distill(teacher, STUDENT, recipe=recipe, out=folder / "run-noise", device="cpu", seed=seed, quiet=True)

    scores = {
        name: evaluate(network, test, inputs=inputs, device="cpu").accuracy
        for name, network in (("teacher", module), ("student", student), ("noise", from_noise))
    }
    big, small = parameters(module), parameters(student)
    show("", f"Accuracy on {len(test.labels)} real digits that no network was trained on:")
    show(f"  teacher            {scores['teacher']:5.1f} %   {big:,} weights, trained on real digits")
    show(f"  student            {scores['student']:5.1f} %   {small:,} weights ({big / small:.0f}x fewer), without data")
    show(f"  student on noise   {scores['noise']:5.1f} %   the same student, distilled on noise")
    found = read_record(folder / "run" / "run.json").get("estimate", {}).get("accuracy")
    if found:
        show("", f"Without a single label it was estimated at {Interval(**found)}")
    show("", f"The run's folder: {folder / 'run'}  (images/ shows the images that the student was distilled on)")
    return scores


def _clear(folder: Path) -> None:
    """Make `folder`, or delete what an earlier demo left in it. Raises `ValueError` if it is not a demo's, and not empty."""
    mark = folder / MARK
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name a new one with --out.")
    there = [path for path in folder.iterdir() if path != mark and not is_temporary(path)] if folder.is_dir() else []
    if there and not (mark.is_file() and mark.stat().st_size == len(NOTE) and mark.read_text(encoding="utf-8") == NOTE):
        raise ValueError(f"{folder} holds files and not a demo's {MARK}; name a new folder with --out, or delete this one.")
    write_text(mark, NOTE, parents=True)
    for path in there:
        remove(path)
