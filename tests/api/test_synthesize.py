"""Transfer sets: the same however they are made, refused in words where they do not fit, and readable by others."""

import gc
import io
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import INPUTS, TINY, network, start_command, status
from PIL import Image

import datafree
from datafree import DAFL, DFAD, STTSS, Plan, Recipe, Stored, TransferSet, distill, synthesize
from datafree.api.inspect import describe_set
from datafree.cli.app import main
from datafree.data.export import FORMATS, soft_labels
from datafree.data.sets import SetCard, read_set, shard_path
from datafree.engine.method import NoStudent
from datafree.methods import stored

METHOD = STTSS(inversion={"steps": 4, "lr": 0.05})


def make(out: Path | None = None, **changes: object) -> TransferSet:
    settings: dict[str, object] = {"batch": 5, "device": "cpu", "quiet": True, **changes}
    return synthesize(network(1), METHOD, 23, out=out, **settings)  # type: ignore[arg-type]


def rows(found: TransferSet) -> set[bytes]:
    return {row.numpy().tobytes() for part in found.pixels for row in part}


def test_a_set_holds_pixels_targets_and_the_teachers_logits() -> None:
    found = make()
    assert len(found) == 23
    assert found.card.provenance == "none"
    assert torch.allclose(found.targets[0].float().sum(1), torch.ones(23), atol=1e-2)
    with torch.no_grad():
        answers = network(1).module(INPUTS.to_network(found.pixels[0]))
    assert torch.allclose(found.logits[0].float(), answers, atol=1e-2)


def test_float16_keeps_what_8_bits_round() -> None:
    fine, coarse = make(pixels="float16"), make(targets=False, logits=False)
    assert fine.pixels[0].dtype == torch.float16
    assert torch.allclose(fine.pixels[0].float(), coarse.pixels[0].float() / 255, atol=3e-3)
    assert not coarse.targets
    assert not coarse.logits


def test_numbers_that_are_not_finite_are_never_stored(tmp_path: Path) -> None:
    method = DAFL(lr=1e38, latent={"size": 8, "width": 8})
    with pytest.raises(FloatingPointError, match=r"by batch 2; lower the method's learning rate \(--method flags\)"):
        synthesize(network(1), method, 16, out=tmp_path / "set.safetensors", batch=4, device="cpu", quiet=True)
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == ["00000000.safetensors"]
    loud = network(1)
    torch.nn.init.constant_(loud.module.fc2.bias, 1e6)  # beyond the half precision of stored logits
    with pytest.raises(FloatingPointError, match="largest of the logits became inf by batch 1"):
        synthesize(loud, METHOD, 8, device="cpu", quiet=True)
    assert len(synthesize(loud, METHOD, 8, device="cpu", quiet=True, logits=False)) == 8


def test_shards_read_back_as_the_set_that_one_process_makes(tmp_path: Path) -> None:
    whole = make()
    for shard in (3, 1, 2):
        make(tmp_path / "set.safetensors", shard=(shard, 3))
    for name in ("set.safetensors", "set-00002-of-00003.safetensors"):
        assert rows(read_set(tmp_path / name)) == rows(whole)


def test_ranks_of_torchrun_make_a_shard_each(tmp_path: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    out = tmp_path / "set.safetensors"
    line = "--recipe sttss-mnist --method.inversion.steps 3 --n 12 --batch 4 --device cpu --out"
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert main(["synthesize", str(teacher_file), *line.split(), str(out)]) == 0
    assert [len(part) for part in read_set(out).pixels] == [8, 4]


def test_a_killed_shard_is_restarted_and_the_set_is_the_same(tmp_path: Path, teacher_file: Path) -> None:
    flags = "--recipe sttss-mnist --n 60 --batch 3 --method.inversion.steps 60 --device cpu".split()

    def begin(out: Path, shard: str) -> BaseProcess:
        said = tmp_path / f"{out.stem}-{shard[0]}.txt"
        return start_command("synthesize", teacher_file, *flags, "--out", out, "--shard", shard, streams=said)

    out = tmp_path / "set.safetensors"
    parts = shard_path(out, 2, 2).with_name(f"{shard_path(out, 2, 2).name}.parts")
    killed, other = begin(out, "2/2"), begin(out, "1/2")
    for _ in range(3000):
        if len(list(parts.glob("0*.safetensors"))) >= 3:
            break
        time.sleep(0.01)
    killed.kill()
    assert status(killed) == -signal.SIGKILL
    assert status(other) == 0
    with pytest.raises(ValueError, match=r"1 of 2 shards are missing, set-00002-of-00002\.safetensors first"):
        read_set(out)
    kept = {part: part.stat().st_mtime_ns for part in parts.glob("0*.safetensors")}
    assert 3 <= len(kept) < 10
    assert status(begin(out, "2/2")) == 0
    assert not parts.exists()
    assert status(begin(tmp_path / "whole.safetensors", "1/1")) == 0
    assert rows(read_set(out)) == rows(read_set(tmp_path / "whole.safetensors"))


def test_what_was_made_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datafree.methods.sttss import STTSSSynthesizer

    synthesize_, made = STTSSSynthesizer.synthesize, []

    def counted(self: STTSSSynthesizer, n: int) -> object:
        if len(made) == 3:
            raise MemoryError("killed")
        made.append(n)
        return synthesize_(self, n)

    monkeypatch.setattr(STTSSSynthesizer, "synthesize", counted)
    with pytest.raises(MemoryError):
        make(tmp_path / "set.safetensors")
    monkeypatch.setattr(STTSSSynthesizer, "synthesize", lambda self, n: made.append(n) or synthesize_(self, n))
    found = make(tmp_path / "set.safetensors")
    assert made == [5, 5, 5, 5, 3]
    assert rows(found) == rows(make())
    make(tmp_path / "set.safetensors")
    assert len(made) == 10  # five for the set without a file, none for the finished one


def test_mistakes_are_refused_in_words(tmp_path: Path) -> None:
    out = tmp_path / "set.safetensors"
    make(out)
    for words, changes in [
        ("holds another set", {"seed": 1}),
        ("fewer than 9 batches", {"shard": (1, 9)}),
        ("count shards from 1", {"shard": (0, 2)}),
    ]:
        with pytest.raises(ValueError, match=words):
            make(out, **changes)
    make(tmp_path / "two.safetensors", shard=(1, 2))
    make(tmp_path / "two.safetensors", shard=(2, 2), logits=False)
    with pytest.raises(ValueError, match="a shard of another set"):
        read_set(tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match="depend on a student"):
        synthesize(network(1), DFAD(), 10, quiet=True)


def test_teachers_that_distill_refuses_are_refused_here_too() -> None:
    with pytest.raises(ValueError, match="teacher refuses inputs of 3x8x8"):
        make(inputs=INPUTS.model_copy(update={"shape": (3, 8, 8)}))
    broken = network(1)
    with torch.no_grad():
        broken.module.fc1.weight[0] = torch.inf
    with pytest.raises(ValueError, match=r"\(fc1\.weight first\) of the teacher hold NaN"):
        synthesize(broken, METHOD, 5, device="cpu", quiet=True)


def test_asking_a_student_that_is_not_there_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        NoStudent()(torch.zeros(1))


def test_students_learn_the_same_from_a_set_in_memory_and_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in (1, 2):
        make(tmp_path / "set.safetensors", shard=(shard, 2))
    plan = Plan(rounds=3, steps=2, batch=8, eval_every=0, grid_every=0)
    recipe = Recipe(Stored(path=tmp_path / "set.safetensors"), plan, "test")
    students = []
    for resident in (2**30, 0):
        monkeypatch.setattr(stored, "RESIDENT", resident)
        students.append(distill(network(1), TINY, recipe=recipe, device="cpu", quiet=True).state_dict())
    assert all(torch.equal(students[0][name], students[1][name]) for name in students[0])


def test_imagefolder_has_the_images_and_their_soft_labels(tmp_path: Path) -> None:
    found = make()
    FORMATS["imagefolder"](found, tmp_path / "folder")
    with np.load(tmp_path / "folder" / "soft_labels.npz") as file:
        names, soft = file["names"], file["soft_labels"]
    assert np.allclose(soft, soft_labels(found).numpy())
    for i, name in enumerate(names):
        with Image.open(tmp_path / "folder" / name) as image:
            assert np.array_equal(np.array(image), found.pixels[0][i, 0].numpy())
        assert int(str(name).split("/")[0]) == soft[i].argmax()
    FORMATS["imagefolder"](found, tmp_path / "folder")  # the same again changes nothing
    (tmp_path / "folder" / "soft_labels.npz").write_bytes(b"of somebody else")
    with pytest.raises(ValueError, match="not an empty folder"):
        FORMATS["imagefolder"](found, tmp_path / "folder")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "cat.txt").write_text("meow")
    with pytest.raises(ValueError, match="not an empty folder"):
        FORMATS["webdataset"](found, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["cat.txt"]


@pytest.mark.parametrize("folder", [True, False])
def test_an_export_does_not_write_through_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: bool) -> None:
    found, out, elsewhere = make(), tmp_path / "folder", tmp_path / "elsewhere"
    with monkeypatch.context() as patched:
        patched.setattr("datafree.data.export._png", lambda image: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # as a kill would, it leaves the part that is done
            FORMATS["imagefolder"](found, out)
    name = f"{int(soft_labels(found)[0].argmax())}/00000000.png"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("of somebody else")
    if folder:
        (out / name).parent.symlink_to(elsewhere)
    else:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).symlink_to(elsewhere / "precious")
    with pytest.raises(ValueError, match="is a link to somewhere else"):
        FORMATS["imagefolder"](found, out)
    assert [path.read_text() for path in elsewhere.iterdir()] == ["of somebody else"]


def test_npz_is_data_of_our_own_commands(tmp_path: Path) -> None:
    found = make()
    FORMATS["npz"](found, tmp_path / "set.npz")
    data = datafree.data.labelled.load_labelled(str(tmp_path / "set.npz"))
    assert torch.equal(data.pixels, found.pixels[0])
    assert torch.equal(data.labels, soft_labels(found).argmax(1))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_shards_are_read_by_webdataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wds = pytest.importorskip("webdataset")
    monkeypatch.setattr("datafree.data.export.TAR_IMAGES", 10)
    found = make()
    FORMATS["webdataset"](found, tmp_path / "wds")
    tars = sorted(str(path) for path in (tmp_path / "wds").iterdir())
    assert len(tars) == 3
    samples = list(wds.WebDataset(tars, shardshuffle=False, empty_check=False))
    assert len(samples) == 23
    soft = soft_labels(found).numpy()
    for i, sample in enumerate(samples):
        assert np.array_equal(np.array(Image.open(io.BytesIO(sample["png"]))), found.pixels[0][i, 0].numpy())
        assert np.array_equal(np.load(io.BytesIO(sample["npy"])), soft[i])
        assert int(sample["cls"]) == soft[i].argmax()
    gc.collect()  # webdataset leaves its files open; here the warning is excused


def test_commands_inspect_and_export_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "set.safetensors")
    assert main(["inspect", str(tmp_path / "set.safetensors")]) == 0
    text = capsys.readouterr().out
    for words in (
        "images",
        "23 in 1 file(s)",
        "classes (teacher's argmax)",
        "entropy of the soft targets",
        "teacher's probability >= 0.9",
        "preview",
    ):
        assert words in text
    with Image.open(tmp_path / "set.preview.png") as preview:
        assert preview.size[0] > 100
    line = ["export-set", str(tmp_path / "set.safetensors"), "--to", "npz", "--out", str(tmp_path / "set.npz")]
    assert main(line) == 0
    assert "23 images as npz" in capsys.readouterr().out


def test_a_set_of_one_image_or_of_very_many_classes_is_described_shortly() -> None:
    card = SetCard(inputs=INPUTS, provenance="none")
    one = TransferSet(card, (torch.zeros(1, 1, 8, 8, dtype=torch.uint8),), targets=(torch.full((1, 10), 0.1),))
    assert describe_set(one)["entropy of the soft targets"] == "2.303 nats (uniform: 2.303)"
    logits = torch.nn.functional.one_hot(torch.tensor([70_000, 5, 70_000]), 100_000).float()
    many = TransferSet(card, (torch.zeros(3, 1, 8, 8, dtype=torch.uint8),), logits=(logits,))
    shown = describe_set(many)["classes (teacher's argmax)"]
    assert shown.startswith("0:0 1:0 2:0 3:0 4:0 5:1 6:0")
    assert shown.endswith("18:0 70000:2 and 99,980 classes of no more images")
    few = TransferSet(card, many.pixels, logits=(logits[:, :20],))
    assert describe_set(few)["classes (teacher's argmax)"].split() == ["0:2", *(f"{i}:{int(i == 5)}" for i in range(1, 20))]
