"""Labelled data in every form that the command line takes, images in and grids out, augmentation, scores."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import INPUTS, network
from PIL import Image

from datafree import evaluate
from datafree.core.runtime import Runtime
from datafree.data.augment import random_crop, random_flip, random_jitter, random_zoom
from datafree.data.drawing import save_grid
from datafree.data.images import fit
from datafree.data.labelled import Labelled, load_labelled
from datafree.engine.supervised import Training, measured_inputs, train
from datafree.reports.metrics import Score, compared


def folder_of_classes(path: Path) -> Path:
    for label, name in enumerate(("ape", "bee")):
        (path / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((8, 8), 100 * label + i, dtype=np.uint8)).save(path / name / f"{i}.png")
    return path


def test_npz_folder_and_torchvision_are_read(tmp_path: Path, images: Path) -> None:
    assert load_labelled(str(images)).labels.tolist() == [i % 10 for i in range(40)]
    found = load_labelled(str(folder_of_classes(tmp_path / "two")))
    assert (found.classes, found.labels.tolist()) == (2, [0, 0, 0, 1, 1, 1])
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]


def test_a_torchvision_set_is_read_by_name_and_root(tmp_path: Path) -> None:
    sets = pytest.importorskip("torchvision.datasets")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        # The IDX format: two zero bytes, the type (8: uint8), the number of axes, each axis as big-endian int32, the data.
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (4, 28, 28)) + bytes(range(4)) * 784
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + (4).to_bytes(4, "big") + bytes([3, 1, 4, 1]))
    assert sets.MNIST
    found = load_labelled(f"torchvision:MNIST:{tmp_path}")
    assert found.labels.tolist() == [3, 1, 4, 1]
    assert found.pixels.shape == (4, 1, 28, 28)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((4, 8, 8), np.uint8)}, "needs an array `labels`"),
        ({"images": np.zeros((4, 8, 8), np.float32), "labels": np.zeros(4, np.int64)}, "uint8"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros(3, np.int64)}, r"integers \[4\]"),
        ({"labels": np.zeros(4, np.int64)}, "seen: none"),
        ({"images": np.array([{"a": 1}]), "labels": np.zeros(1, np.int64)}, "not a plain .npz"),
    ],
)
def test_wrong_npz_are_refused_in_words(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        load_labelled(str(tmp_path / "x.npz"))


def test_wrong_names_are_refused_in_words(tmp_path: Path) -> None:
    for name, words in [
        (str(tmp_path / "nothing"), "does not exist"),
        ("torchvision:MNIST", "not of the form"),
        (f"torchvision:Nothing:{tmp_path}", "no set named"),
        (f"torchvision:CIFAR10:{tmp_path}", "download it there first"),
        (str(tmp_path), "one folder a class"),
    ]:
        with pytest.raises(ValueError, match=words):
            load_labelled(name)


def test_labels_beyond_the_networks_classes_are_refused(images: Path) -> None:
    with pytest.raises(ValueError, match=r"labels 0\.\.9 and the network 4 classes"):
        evaluate(network(1, classes=4), str(images))


def test_fitting_resizes_and_converts_colours() -> None:
    gray = torch.full((2, 1, 6, 6), 90, dtype=torch.uint8)
    assert fit(gray, (3, 12, 9)).shape == (2, 3, 12, 9)
    assert set(fit(gray, (3, 12, 9)).unique().tolist()) == {90}
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert fit(red, (1, 4, 4)).unique().tolist() == [76]
    with pytest.raises(ValueError, match="4 channels"):
        fit(torch.zeros(1, 4, 2, 2, dtype=torch.uint8), (3, 2, 2))


def test_a_grid_is_a_picture_of_its_images(tmp_path: Path) -> None:
    pixels = torch.stack([torch.full((1, 4, 4), v, dtype=torch.uint8) for v in (0, 50, 100, 150, 200)])
    save_grid(pixels, tmp_path / "grid.png", columns=3, smallest=8)
    sheet = np.array(Image.open(tmp_path / "grid.png"))
    assert sheet.shape == (2 + 2 * 10, 2 + 3 * 10, 3)
    assert [sheet[5, 5, 0], sheet[5, 15, 0], sheet[5, 25, 0], sheet[15, 5, 0], sheet[15, 15, 0]] == [0, 50, 100, 150, 200]


def test_crop_shifts_each_image_by_at_most_the_padding() -> None:
    x = torch.arange(1.0, 26.0).view(1, 1, 5, 5).expand(64, 2, 5, 5)
    out = random_crop(x, 2, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x[0], (2, 2, 2, 2))
    windows = [padded[:, i : i + 5, j : j + 5] for i in range(5) for j in range(5)]
    hits = [next(k for k, window in enumerate(windows) if torch.equal(window, image)) for image in out]
    assert len(set(hits)) > 15


def test_flip_mirrors_about_half() -> None:
    x = torch.randn(400, 1, 3, 4)
    out = random_flip(x, torch.Generator().manual_seed(0))
    flipped = [torch.equal(a, b.flip(2)) for a, b in zip(out, x, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(out, x, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 150 < sum(flipped) < 250


def test_jitter_changes_contrast_and_brightness_and_nothing_else() -> None:
    x = torch.randn(200, 3, 4, 4)
    out = random_jitter(x, 0.2, torch.Generator().manual_seed(0))
    contrast = out.std((1, 2, 3)) / x.std((1, 2, 3))
    brightness = (out.mean((1, 2, 3)) - x.mean((1, 2, 3))) / x.std((1, 2, 3))
    for change in (contrast - 1, brightness):
        assert -0.2001 < change.min() < -0.15
        assert 0.15 < change.max() < 0.2001
    pattern = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)
    kept = (out - out.mean((1, 2, 3), keepdim=True)) / out.std((1, 2, 3), keepdim=True)
    assert torch.allclose(pattern, kept, atol=1e-4)


def test_zoom_shows_a_part_of_each_image_in_whole() -> None:
    # Each pixel says where it lies, so that what is seen says which part it is.
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    out = random_zoom(torch.stack([rows, columns]).expand(400, 2, 64, 64), 0.25, torch.Generator().manual_seed(0))
    height = (out[:, 0, -1, 0] - out[:, 0, 0, 0]) / 2  # shares of the side
    width = (out[:, 1, 0, -1] - out[:, 1, 0, 0]) / 2
    area, ratio = height * width.abs(), width.abs() / height
    assert out.abs().max() <= 1
    assert 0.22 < area.min() < 0.3
    assert 0.9 < area.max() <= 1
    assert 0.7 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.4
    assert 150 < (width < 0).sum() < 250
    assert out.mean((2, 3)).std(0).min() > 0.1


def test_scores_are_percent_of_images(images: Path) -> None:
    net, data = network(1), load_labelled(str(images))
    chosen = net.module(INPUTS.to_network(data.pixels)).argmax(1)
    score = evaluate(net, Labelled(data.pixels, chosen.detach(), 10, "own answers"), against=net)
    assert (score.accuracy, score.agreement, score.images) == (100.0, 100.0, 40)
    wrong = chosen.clone()
    wrong[:10] = (wrong[:10] + 1) % 10
    assert evaluate(net, Labelled(data.pixels, wrong, 10, "x")).accuracy == 75.0
    other = network(2)
    agree = (other.module(INPUTS.to_network(data.pixels)).argmax(1) == chosen).float().mean().item() * 100
    assert evaluate(net, data, against=other).agreement == pytest.approx(agree)


def test_what_two_networks_have_in_common_gives_one_accuracy_from_the_other(images: Path) -> None:
    data = load_labelled(str(images))
    one, other = (evaluate(network(seed), data, against=network(3 - seed)) for seed in (1, 2))
    assert one.right_apart is not None
    assert one.other_right_apart is not None
    apart = 1 - (one.agreement or 0) / 100
    assert one.percent == pytest.approx(other.percent - apart * (one.other_right_apart - one.right_apart))
    assert (one.right_apart, one.other_right_apart) == (other.other_right_apart, other.right_apart)
    same = evaluate(network(1), data, against=network(1))
    assert (same.agreement, same.right_apart, same.other_right_apart) == (100.0, None, None)


def test_void_pixels_count_in_no_comparison() -> None:
    labels = torch.tensor([[[0, 1], [1, 9]]], dtype=torch.uint8)
    data = Labelled(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), labels, 2, "x", void=9)
    one, other = torch.tensor([[[0, 1], [0, 0]]]), torch.tensor([[[0, 0], [1, 1]]])
    found = compared(Score("miou", 0.0), one, other, data)
    assert found.agreement == pytest.approx(100 / 3)
    assert (found.right_apart, found.other_right_apart) == (50.0, 50.0)


def test_a_description_is_the_data_s_mean_and_deviation() -> None:
    pixels = torch.randint(0, 256, (50, 3, 6, 6), dtype=torch.uint8)
    spec = measured_inputs(Labelled(pixels, torch.zeros(50, dtype=torch.int64), 1, "x"))
    scaled = pixels.double() / 255
    assert spec.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert spec.std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), abs=1e-4)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_teaching_learns_what_can_be_learnt(schedule: str) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 10
    pixels = torch.randint(0, 60, (200, 1, 8, 8), generator=generator, dtype=torch.uint8)
    pixels[torch.arange(200), 0, labels % 8, labels // 8 * 4] = 255  # one bright pixel tells the class
    data = Labelled(pixels, labels, 10, "dots")
    spec, runtime = measured_inputs(data), Runtime("cpu")
    fresh = network(1, inputs=spec)
    before = evaluate(fresh, data).accuracy
    losses: list[float] = []
    train(
        fresh.module, data, spec, Training(epochs=15, batch=32, schedule=schedule), runtime, lambda _, loss: losses.append(loss)
    )
    assert evaluate(fresh, data).accuracy > 95 > before + 50
    assert losses[-1] < losses[0] / 5
