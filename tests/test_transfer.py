"""The transfer set: a pool in memory and a file on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import INPUTS
from PIL import Image

from datafree import TransferSet
from datafree.transfer import Batch, read_pixels


def numbered(*values: int) -> Batch:
    """Images whose every pixel is the given number."""
    pixels = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *INPUTS.shape)
    return Batch(INPUTS.to_network(pixels))


def kept(pool: TransferSet) -> set[int]:
    return set(pool.pixels[: len(pool), 0, 0, 0].tolist())


def test_the_newest_are_kept() -> None:
    pool = TransferSet(INPUTS, keep=5)
    pool.add(numbered(1, 2, 3))
    assert kept(pool) == {1, 2, 3}
    pool.add(numbered(4, 5, 6))
    assert kept(pool) == {2, 3, 4, 5, 6}
    pool.add(numbered(*range(10, 22)))
    assert kept(pool) == {17, 18, 19, 20, 21}


def test_batches_are_drawn_from_what_is_kept() -> None:
    pool = TransferSet(INPUTS, keep=50)
    pool.add(numbered(7, 8, 9))
    generator = torch.Generator().manual_seed(0)
    seen = [INPUTS.to_pixels(batch.x)[:, 0, 0, 0] for batch in pool.batches(4, 16, generator)]
    assert [len(row) for row in seen] == [16] * 4
    assert set(torch.cat(seen).tolist()) == {7, 8, 9}


def test_without_keeping_each_image_is_used_once_and_unrounded() -> None:
    pool, x = TransferSet(INPUTS, keep=0), torch.randn(12, *INPUTS.shape)
    pool.add(Batch(x))
    assert torch.equal(torch.cat([batch.x for batch in pool.batches(3, 4, torch.Generator())]), x)


def test_a_saved_set_reads_back_with_its_provenance(tmp_path: Path) -> None:
    pool = TransferSet(INPUTS, keep=5)
    pool.add(numbered(3, 1, 4))
    pool.save(tmp_path / "set.safetensors", provenance="none")
    found = read_pixels(tmp_path / "set.safetensors", INPUTS)
    assert torch.equal(found.pixels, pool.pixels[:3])
    assert found.provenance == "none"


def test_folders_and_npz_are_read_without_their_labels(tmp_path: Path, images: Path) -> None:
    assert read_pixels(images, INPUTS).pixels.shape == (40, 1, 8, 8)
    for i in range(3):
        (tmp_path / "flat" / "deeper").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 12, 3), 100 * i, dtype=np.uint8)).save(tmp_path / "flat" / "deeper" / f"{i}.png")
    found = read_pixels(tmp_path / "flat", INPUTS)
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 100, 200]
    assert found.provenance != "none"


def test_a_cut_a_foreign_and_a_missing_file_are_refused_in_words(tmp_path: Path) -> None:
    pool = TransferSet(INPUTS, keep=5)
    pool.add(numbered(3, 1, 4))
    pool.save(tmp_path / "set.safetensors", provenance="none")
    whole = (tmp_path / "set.safetensors").read_bytes()
    for name, content, words in [
        ("cut.safetensors", whole[:-20], "cut short"),
        ("head.safetensors", whole[:30], "cut short"),
        ("text.safetensors", b"hello, this is text", "not a safetensors"),
        ("empty.safetensors", b"", "not a safetensors"),
        ("text.npz", b"hello", "not a plain .npz"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_pixels(tmp_path / name, INPUTS)
    with pytest.raises(ValueError, match="does not exist"):
        read_pixels(tmp_path / "nothing.safetensors", INPUTS)


def test_a_network_file_is_not_a_set(teacher_file: Path) -> None:
    with pytest.raises(ValueError, match="not a transfer set"):
        read_pixels(teacher_file, INPUTS)
