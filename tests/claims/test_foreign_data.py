"""Sets, images, labelled data and run folders of others: each is read rightly, or refused in one sentence."""

import contextlib
import io
import json
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import INPUTS, TINY
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from datafree.cli import main
from datafree.core import files
from datafree.data import images as read_images
from datafree.data.images import list_images, read_files, read_mask
from datafree.data.labelled import load_labelled
from datafree.data.sets import SetCard, read_set, shard_path, write_shard
from datafree.networks.network import load
from datafree.networks.saved.weights import read_weights


def pixels(n: int = 6, shape: tuple[int, ...] = INPUTS.shape, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.zeros(n, *shape).to(dtype)


def shards(tmp_path: Path, second: dict[str, Tensor], shards: int = 2, **card: Any) -> Path:
    """A set of two files, whose second holds `second`; `card` changes the card of both."""
    described = SetCard(inputs=INPUTS, provenance="none", shards=shards, **card)
    common = tmp_path / "set.safetensors"
    write_shard(shard_path(common, 1, 2), described, {"pixels": pixels(), "logits": torch.ones(6, 10)})
    write_shard(shard_path(common, 2, 2), described, second)
    return common


def test_shards_that_fit_are_one_set(tmp_path: Path) -> None:
    assert len(read_set(shards(tmp_path, {"pixels": pixels(3), "logits": torch.ones(3, 10)}, made={"n": 9}))) == 9


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"pixels": pixels(dtype=torch.float16), "logits": torch.ones(6, 10)}, "no shards of one set"),
        ({"pixels": pixels(shape=(1, 9, 9)), "logits": torch.ones(6, 10)}, "its card says"),
        ({"pixels": pixels()}, "no shards of one set"),
        ({"pixels": pixels(), "logits": torch.ones(5, 10)}, "differ in length"),
        ({"pixels": pixels(), "logits": torch.ones(6, 9)}, "no shards of one set"),
        ({"pixels": pixels(), "logits": torch.full((6, 10), torch.nan)}, "not finite"),
        ({"pixels": pixels(0), "logits": torch.ones(0, 10)}, "0 images"),
        ({"pixels": pixels(), "logits": torch.ones(6, 10, dtype=torch.int64)}, "not float16"),
        ({"pixels": pixels(), "logits": torch.ones(6, 10), "targets": torch.full((6, 10), 2.0)}, "no probabilities"),
        ({"pixels": pixels(shape=(1, 0, 8)), "logits": torch.ones(6, 10)}, "its card says"),
        ({"logits": torch.ones(6, 10)}, "pixels are none"),
    ],
)
def test_shards_that_disagree_are_no_set(second: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        read_set(shards(tmp_path, second))


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"made": {"n": 13}}, "its card says 13"),
        ({"made": {"pixels": "float16"}}, "float16 pixels"),
        ({"shards": 3}, "shards are missing"),
        ({"shards": 99_999}, "shards are missing"),
    ],
)
def test_a_card_that_lies_is_refused(card: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        read_set(shards(tmp_path, {"pixels": pixels(), "logits": torch.ones(6, 10)}, **card))


def test_a_card_of_many_shards_is_refused_at_once(tmp_path: Path) -> None:
    file = shards(tmp_path, {"pixels": pixels()}).with_name("set-00001-of-00002.safetensors")
    with safe_open(file, "pt") as opened:
        card = json.loads(opened.metadata()["datafree.set"]) | {"shards": 10**8}
    save_file({"pixels": pixels()}, file, metadata={"datafree.set": json.dumps(card)})
    with pytest.raises(ValueError, match=r"card of .* is not valid"):
        read_set(file)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A grey PNG that declares this size and holds `data`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def encoded(mode: str, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 60).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"rubbish", png(2**31 - 1, 2**31 - 1), png(40_000, 40_000), png(32, 32, b"\0" * 40), encoded("L", "JPEG")[:300]],
    ids=["empty", "rubbish", "declared", "bomb", "short", "cut-jpeg"],
)
def test_a_file_that_is_no_image_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError, match="not an image that can be read"):
        read_files([tmp_path / "x.png"], (1, 8, 8))
    with pytest.raises(ValueError, match="not an image that can be read"):
        read_mask(tmp_path / "x.png")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ValueError, match="no regular file"):
        read_files(list_images(tmp_path))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_images_of_every_depth_are_read_rightly(mode: str, tmp_path: Path) -> None:
    grey = np.full((8, 8), 255, np.uint8)
    grey[:4] = 0
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "x.png")
    else:
        Image.fromarray(grey).convert("RGB").convert(mode).save(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"))
    found = read_files(list_images(tmp_path), (1, 8, 8))
    assert torch.equal(found, torch.from_numpy(grey)[None, None])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "jpeg"])
def test_a_spoilt_tiff_says_nothing_of_its_own(compression: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The library that reads it is in C, and prints where Python does not see it."""
    file = tmp_path / "x.tif"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(file, compression=compression)
    content = bytearray(file.read_bytes())
    content[20:2000] = bytes(1980)
    file.write_bytes(content)
    with contextlib.suppress(ValueError):
        read_files([file])
    assert capfd.readouterr() == ("", "")
    sys.stderr.write("later\n")
    assert capfd.readouterr().err == "later\n"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "a" / "x.png")
    assert len(list_images(tmp_path)) == 1


ARRAYS: dict[str, dict[str, Any]] = {
    "objects": {"images": np.array([{}, {}], dtype=object)},
    "text": {"images": np.array(["a", "b"])},
    "none": {"images": np.zeros((0, 8, 8), np.uint8), "labels": np.zeros(0, np.int64)},
    "flat": {"images": np.zeros((4, 0, 8), np.uint8), "labels": np.arange(4)},
    "counts": {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(3)},
    "words": {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.array(list("abcd"))},
    "below": {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.array([-1, 0, 1, 2])},
    "beyond": {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.array([0, 1, 2, 2**40])},
    "void": {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros((4, 8, 8), np.uint8), "void": np.array([1, 2])},
}


@pytest.mark.parametrize("arrays", ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_are_no_labelled_data_are_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(ValueError, match=r"data\.npz") as caught:
        load_labelled(str(tmp_path / "data.npz"))
    assert "\n" not in str(caught.value)


@given(place=st.floats(0, 1), written=st.binary(min_size=1, max_size=12), cut=st.booleans())
def test_any_bytes_of_an_archive_end_in_a_sentence(place: float, written: bytes, cut: bool, tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4))
    content = bytearray(file.read_bytes())
    start = int(place * (len(content) - 1))
    content[start : start + len(written)] = written
    file.write_bytes(bytes(content[:start] if cut else content))
    with contextlib.suppress(ValueError):  # anything else fails
        load_labelled(str(file))


class Code:
    """A pickle of this makes the file that is named."""

    def __init__(self, made: Path):
        self.made = made

    def __reduce__(self) -> Any:
        return Path.touch, (self.made,)


@pytest.fixture
def run(tmp_path: Path, teacher_file: Path) -> list[str]:
    """A line whose run in `tmp_path/run` is at its first round."""
    line = f"distill {teacher_file} --student {TINY} --recipe dfad-digits --method.batch 8 --plan.rounds 3 --plan.steps 1 "
    line += f"--plan.batch 8 --plan.log-every 1 --plan.save-every 1 --device cpu --out {tmp_path / 'run'}"
    assert main(line.split()) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"status": "running"}))
    return line.split()


def refused(line: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(line) == 1
    errors = capsys.readouterr().err.splitlines()
    assert words in errors[-1]


def test_a_checkpoint_of_others_is_refused_and_its_code_does_not_run(
    run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, canary = tmp_path / "run" / "checkpoint.pt", tmp_path / "canary"
    good = torch.load(file, weights_only=True)
    for content in (
        Code(canary),
        {},
        good | {"parts": []},
        good | {"round": "3"},
        good | {"saves": 2**80},
        good | {"parts": good["parts"] | {"student": {}}},
        good | {"rounding": [1, 2]},
        good | {"parts": good["parts"] | {"optimizer": good["parts"]["optimizer"] | {"state": {0: torch.ones(3)}}}},
        good
        | {"parts": {**good["parts"], "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": []}}},
    ):
        torch.save(content, file)
        refused(run, "is not a checkpoint of this run", capsys)
    for bytes_ in (b"", b"PK\x03\x04", b"\x80\x02."):
        file.write_bytes(bytes_)
        refused(run, "is not a checkpoint of this run", capsys)
    assert not canary.exists()
    torch.save(good, file)
    assert main(run) == 0


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "1", '{"identity": 3}', "[" * 50_000, '{"identity": {}, "auto": "all"}', "\0"]
)
def test_a_record_of_others_is_refused(text: str, run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run" / "run.json").write_text(text)
    refused(run, "is not the record of a run", capsys)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "round,x\nmany,1\n", "round\n-1\n", f"round\n{10**30}\n", 'round\n"1\n2\n'])
def test_a_log_of_others_is_refused(text: str, run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run" / "log.csv").write_text(text)
    refused(run, "is not the log of a run", capsys)


def test_no_name_from_a_file_paints_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "x\x1b[31m\nforged: all is well.png"
    (tmp_path / name).write_bytes(b"rubbish")
    line = f"distill {tmp_path / 'none'} --student {TINY} --recipe stored-mnist --method.path {tmp_path}".split()
    assert main(line) == 1
    with pytest.raises(ValueError, match="not an image"):
        read_files(list_images(tmp_path))
    card = SetCard(inputs=INPUTS, provenance="none\x1b[2J\nteacher: trusted")
    write_shard(tmp_path / "set.safetensors", card, {"pixels": pixels()})
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "set.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b" in out or r"\u001b" in out
    assert not any(each.startswith("teacher: trusted") for each in out.splitlines())


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"images": (900, 8, 8), "labels": (60_000,), "masks": (60_000,)},
            r"images, labels, masks would unpack to 0 MiB, over",
        ),
        ({"images": (9, 8, 8), "void": (2000,)}, r"`void` has 2,128 bytes, and at most 1,024 are read"),
        ({"images": (9, 8, 8), "colours": (2**20, 3)}, "`colours` has"),
    ],
)
def test_all_arrays_of_an_archive_together_take_limited_memory(
    arrays: dict[str, tuple[int, ...]], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_images, "SMALL", 2**17)  # more than any of the first
    monkeypatch.setattr(read_images, "_read_array", None)
    contents: dict[str, Any] = {name: np.zeros(shape, np.uint8) for name, shape in arrays.items()}
    np.savez_compressed(tmp_path / "many.npz", **contents)
    with pytest.raises(ValueError, match=words):
        load_labelled(str(tmp_path / "many.npz"))


@pytest.mark.parametrize(("tensors", "padding"), [(20_000, 0), (1, 2**23)])
def test_a_header_that_takes_long_to_read_is_refused_first(
    tensors: int, padding: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "safe_open", None)
    header: dict[str, Any] = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(tensors)}
    text = json.dumps({"__metadata__": {"x": "y" * padding}, **header}).encode()
    path = tmp_path / "many.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    for read in (read_set, load, read_weights):
        with pytest.raises(ValueError, match=r"has a header of [\d,]+ bytes that lists about [\d,]+ tensors"):
            read(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_set_is_opened_before_it_is_hashed(
    suffix: str, tmp_path: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "sha256", None)
    data = tmp_path / f"x{suffix}"
    with data.open("wb") as file:
        file.truncate(2**33)
    line = f"distill {teacher_file} --student {TINY} --recipe stored-mnist --method.path {data} --device cpu"
    refused([*line.split(), "--out", str(tmp_path / "run")], f"{data} is not a", capsys)
    assert not (tmp_path / "run").exists()
