"""Segmentation: every verb serves it, and what is judged is what a naive loop would say."""

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import network
from PIL import Image
from torch import Tensor, nn

from datafree import (
    CMI,
    CSD,
    DDA,
    DFAD,
    NAYER,
    STTSS,
    DeepInversion,
    Fast,
    InputSpec,
    Network,
    Plan,
    Recipe,
    Stored,
    build,
    distill,
    evaluate,
)
from datafree.api.pack import pack
from datafree.cli.app import main
from datafree.core.runtime import Runtime
from datafree.data.drawing import painted, palette
from datafree.data.images import fit_masks
from datafree.data.labelled import VOID, Labelled, load_labelled
from datafree.engine.method import Method, Problem
from datafree.engine.supervised import Training, _augmented, focal_loss
from datafree.networks.network import Card, load
from datafree.networks.teacher import Teacher
from datafree.reports.metrics import confusion, intersection_over_union, score

INPUTS = InputSpec(shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
TEACHER, STUDENT = "compact-segmenter", "compact-segmenter-half"
PLAN = Plan(rounds=2, steps=2, batch=4, lr=0.01, log_every=1, eval_every=1, grid_every=1, save_every=1)
FAST = DFAD(latent={"size": 8, "generator": "dcgan", "width": 4}, batch=4, objective="log-gap")


@pytest.fixture(scope="module")
def streets() -> Labelled:
    """Ten pictures of a bright square on noise: class 1 on class 0, and a void row on top."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 100, (10, 3, 32, 32), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(10, 32, 32, dtype=torch.uint8)
    for i in range(10):
        top, left = torch.randint(4, 16, (2,), generator=generator).tolist()
        pixels[i, :, top : top + 12, left : left + 12] += 150
        masks[i, top : top + 12, left : left + 12] = 1
    masks[:, 0] = 3
    return Labelled(pixels, masks, 3, "squares", void=3)


@pytest.fixture
def file(tmp_path: Path, streets: Labelled) -> Path:
    path = tmp_path / "squares.npz"
    images = streets.pixels.permute(0, 2, 3, 1).numpy()
    names = np.array(["ground", "square", "never", "void"])
    np.savez(path, images=images, masks=streets.labels.numpy(), classes=names, void=3)
    return path


def segmenter(architecture: str = TEACHER, seed: int = 1) -> Network:
    made = network(seed, architecture, INPUTS, 3)
    return Network(made.module, made.card.model_copy(update={"task": "segmentation"}))


class Wrapped(nn.Module):
    """A network that answers with a mapping, as torchvision's do."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return OrderedDict(out=self.inner(x), aux=x)


def test_iou_is_that_of_a_naive_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.randint(0, 5, (130, 6, 7), generator=generator, dtype=torch.uint8)  # 4 is void
    chosen = torch.randint(0, 3, (130, 6, 7), generator=generator, dtype=torch.uint8)
    naive = []
    for k in range(4):
        known = truth != 4
        hits = ((truth == k) & (chosen == k) & known).sum().item()
        either = (((truth == k) | (chosen == k)) & known).sum().item()
        naive.append(hits / either)
    seen = intersection_over_union(confusion(chosen, truth, 4, void=4))
    assert np.allclose(seen, naive)
    found = score(chosen, Labelled(torch.zeros(130, 3, 6, 7, dtype=torch.uint8), truth, 4, "", void=4))
    assert found.name == "miou"
    assert found.percent == pytest.approx(100 * np.mean(naive))


def test_a_class_that_is_neither_there_nor_chosen_does_not_count() -> None:
    truth = torch.tensor([[[0, 0, 1]]], dtype=torch.uint8)
    found = score(torch.tensor([[[0, 1, 1]]], dtype=torch.uint8), Labelled(torch.zeros(1, 1, 1, 3), truth, 3, ""))
    assert found.percent == pytest.approx(50)
    assert found.rounded() == (50.0, 50.0, None)


def test_an_npz_with_masks_is_read(file: Path, streets: Labelled) -> None:
    data = load_labelled(str(file))
    assert torch.equal(data.pixels, streets.pixels)
    assert torch.equal(data.labels, streets.labels)
    assert (data.classes, data.void, data.names) == (3, 3, ("ground", "square", "never"))
    small = data.fitted((3, 16, 16), 3)
    assert small.pixels.shape == (10, 3, 16, 16)
    assert set(small.labels.unique().tolist()) <= {0, 1, 3}
    with pytest.raises(ValueError, match=r"labels 0\.\.1 and the network 1 classes"):
        data.fitted((3, 16, 16), 1)


def test_paired_folders_are_read(tmp_path: Path, streets: Labelled) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for i in range(3):
        Image.fromarray(streets.pixels[i].permute(1, 2, 0).numpy()).save(tmp_path / "images" / f"{i}.png")
        mask = streets.labels[i].clone()
        mask[mask == 3] = VOID
        Image.fromarray(mask.numpy()).save(tmp_path / "masks" / f"{i}.png")
    data = load_labelled(str(tmp_path))
    assert torch.equal(data.pixels, streets.pixels[:3])
    assert data.void == VOID
    assert torch.equal(data.labels == VOID, streets.labels[:3] == 3)
    assert data.classes == 2
    (tmp_path / "masks" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"1 images in .* have no mask, 1.png first"):
        load_labelled(str(tmp_path))
    Image.new("RGB", (32, 32)).save(tmp_path / "masks" / "1.png")
    with pytest.raises(ValueError, match="a mask has one number a pixel"):
        load_labelled(str(tmp_path))


def test_masks_of_the_wrong_kind_are_refused_in_words(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", images=np.zeros((2, 8, 8, 3), np.uint8), masks=np.zeros((2, 8, 9), np.uint8))
    with pytest.raises(ValueError, match=r"needs masks uint8 \[2, 8, 8\], one label a pixel; seen: uint8 \[2, 8, 9\]"):
        load_labelled(str(tmp_path / "bad.npz"))


def test_masks_are_resized_to_the_nearest_label() -> None:
    masks = torch.tensor([[[0, 5], [7, 2]]], dtype=torch.uint8)
    assert torch.equal(fit_masks(masks, (4, 4)), masks.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_images_and_masks_change_together_when_teaching(streets: Labelled) -> None:
    """After zoom and flip, bright pixels are still where the mask says square."""
    x, y = _augmented(INPUTS.to_network(streets.pixels), streets.labels, Training(zoom=1.0), Runtime("cpu"))
    assert not torch.equal(y, streets.labels)
    bright = INPUTS.to_float_pixels(x).mean(1) > 0.45
    known = y != 3
    assert ((y == 1) == bright)[known].float().mean() > 0.97
    assert (y == 1).float().mean() > 1.1 * (streets.labels == 1).float().mean(), "a part is enlarged"


def test_focal_loss_is_that_of_a_naive_loop() -> None:
    logits, labels = torch.randn(2, 4, 3, 3), torch.randint(0, 5, (2, 3, 3))
    p = logits.softmax(1)
    terms = [
        -((1 - p[i, k, r, c]) ** 2) * p[i, k, r, c].log()
        for i in range(2)
        for r in range(3)
        for c in range(3)
        if (k := int(labels[i, r, c])) != 4
    ]
    assert torch.allclose(focal_loss(logits, labels, 2.0, void=4), torch.stack(terms).mean(), atol=1e-6)
    assert torch.equal(focal_loss(logits, labels, 0.0, void=4), F.cross_entropy(logits, labels, ignore_index=4))


@pytest.mark.parametrize(("backbone", "weights"), [("resnet50", 23_508_032), ("mobilenetv2", 1_811_712)])
def test_deeplab_is_of_its_size_and_answers_every_pixel(backbone: str, weights: int) -> None:
    """The backbones have the weights of torchvision's without their heads, and stride 8."""
    module = build(f"deeplabv3-{backbone}", INPUTS, 11).eval()
    assert sum(weight.numel() for weight in module.backbone.parameters()) == weights
    x = torch.zeros(2, *INPUTS.shape)
    with torch.no_grad():
        assert module.backbone(x).shape[2:] == (4, 4)
        assert module(x).shape == (2, 11, 32, 32)


@pytest.mark.parametrize("method", [CMI(), CSD(), DDA(), DeepInversion(), Fast(), NAYER(), STTSS()])
def test_methods_that_do_not_serve_it_name_one_that_does(method: Method) -> None:
    runtime = Runtime("cpu")
    problem = Problem(Teacher(segmenter().module, INPUTS, runtime), segmenter(STUDENT).module, INPUTS, 3, "segmentation")
    with pytest.raises(ValueError, match="not segmentation; use dfad"):
        method.start(problem, runtime)


def test_distill_with_evaluation_says_miou_and_draws_masks(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    distill(segmenter(), STUDENT, recipe=Recipe(FAST, PLAN, "test"), out=out, eval_data=str(file), quiet=True, device="cpu")
    results = json.loads((out / "run.json").read_text())["results"]
    assert set(results["student_miou_each"]) == {"ground", "square", "never"}
    assert results["student_miou"] <= results["best_miou_oracle"] + 1e-4  # the log rounds
    assert "miou" in (out / "log.csv").read_text().splitlines()[0]
    assert load(out / "student.safetensors").card.task == "segmentation"
    score = evaluate(out / "student.safetensors", str(file), device="cpu")
    assert score.percent == pytest.approx(results["student_miou"])
    with pytest.raises(AttributeError, match="not an accuracy"):
        _ = score.accuracy
    with Image.open(out / "images" / "round-000002.png") as sheet, Image.open(out / "images" / "evaluation.png") as judged:
        assert sheet.size[0] > 6 * 48
        assert judged.size[0] > 8 * 48
    page = (out / "report.html").read_text()
    real, made = page.index("How it sees real images"), page.index("What the student looked at")
    assert real < page.index("<figcaption>evaluation<") < made < page.index("<figcaption>round-000002<")
    assert page.count("the teacher's answer and the student's") == 2, "above both kinds of picture"
    assert "IoU of each class, %" in page


def test_networks_that_answer_with_a_mapping_are_understood(file: Path) -> None:
    teacher, student = Wrapped(segmenter().module), Wrapped(segmenter(STUDENT, seed=2).module)
    plain = segmenter(STUDENT, seed=2).module
    recipe = Recipe(FAST, PLAN, "test")
    distill(teacher, student, inputs=INPUTS, recipe=recipe, quiet=True, device="cpu")
    distill(segmenter(), plain, recipe=recipe, quiet=True, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(student.state_dict().values(), plain.state_dict().values(), strict=True))
    assert isinstance(student(torch.zeros(2, *INPUTS.shape)), dict), "a student is given back as it was"
    assert not student._forward_hooks
    assert evaluate(student, str(file), inputs=INPUTS).percent == evaluate(plain, str(file), inputs=INPUTS).percent


def test_a_factory_of_torchvision_serves(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    name = "torchvision.models.segmentation:lraspp_mobilenet_v3_large"
    options = {"num_classes": 3, "weights_backbone": None}  # its own default would fetch weights
    torch.save(build(name, INPUTS, 3, options, ["torchvision"]).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="--allow-code torchvision"):
        pack(tmp_path / "w.pth", name, INPUTS, 3)
    packed = pack(tmp_path / "w.pth", name, INPUTS, 3, options, ["torchvision"])
    assert packed.card.task == "segmentation"
    packed.save(tmp_path / "n.safetensors")
    again = load(tmp_path / "n.safetensors", ["torchvision"])
    distill(again, STUDENT, recipe=Recipe(FAST, PLAN, "test"), quiet=True, device="cpu")


def test_networks_that_answer_in_different_sizes_are_refused_in_words() -> None:
    coarse = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1))
    with pytest.raises(ValueError, match=r"3x32x32 the student returns logits \[3, 16, 16\] and the teacher \[3, 32, 32\]"):
        distill(segmenter(), coarse, recipe=Recipe(FAST, PLAN, "test"), quiet=True, device="cpu")


def test_answers_of_another_size_are_enlarged_to_be_judged(streets: Labelled) -> None:
    torch.manual_seed(0)
    coarse = nn.Conv2d(3, 3, 3, 2, 1)
    card = Card(architecture="nn:Conv2d", classes=3, task="segmentation", inputs=INPUTS)
    with torch.no_grad():
        large = F.interpolate(coarse(INPUTS.to_network(streets.pixels)), size=(32, 32), mode="bilinear").argmax(1)
    assert evaluate(Network(coarse, card), streets, device="cpu").percent == score(large.to(torch.uint8), streets).percent


def test_stored_images_serve_segmentation(file: Path) -> None:
    student = segmenter(STUDENT, seed=2).module
    before = student.backbone[0][0].weight.clone()
    distill(segmenter(), student, recipe=Recipe(Stored(path=file), PLAN, "test"), quiet=True, device="cpu")
    assert not torch.equal(before, student.backbone[0][0].weight)


def test_the_commands_serve_it(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*line: object) -> str:
        assert main([str(word) for word in line]) == 0
        streams = capsys.readouterr()
        return streams.out + streams.err

    teacher = tmp_path / "teacher.safetensors"
    how = ["--epochs", 60, "--batch", 5, "--lr", 0.05, "--device", "cpu"]
    taught = said("teach", file, "--arch", STUDENT, *how, "--out", teacher, "--eval", file)
    assert "mIoU" in taught
    graded = said("evaluate", teacher, "--data", file, "--against", teacher, "--device", "cpu")
    assert "square" in graded
    assert "agreement 100.00 %" in graded
    assert evaluate(teacher, str(file), device="cpu").each[1] > 70, "it has learned squares"
    assert '"task": "segmentation"' in said("inspect", teacher)
    small = ["--method.latent.width", 2, "--plan.rounds", 1, "--plan.steps", 1, "--plan.batch", 4, "--method.batch", 4]
    line = ["distill", teacher, "--student", STUDENT, "--recipe", "dfad-camvid-light", *small, "--device", "cpu"]
    assert "dry run passed" in said(*line, "--dry-run")
    assert "mIoU: teacher" in said(*line, "--out", tmp_path / "run", "--eval", file)


def test_colours_are_all_different_and_void_is_black() -> None:
    colours = palette(40)
    assert len({tuple(row) for row in colours.tolist()}) == 40
    masks = torch.tensor([[[0, 1, 3]]], dtype=torch.uint8)
    shown = painted(masks, colours[:3], void=3)
    assert shown.shape == (1, 3, 1, 3)
    assert torch.equal(shown[0, :, 0, 1], colours[1])
    assert not shown[0, :, 0, 2].any()
