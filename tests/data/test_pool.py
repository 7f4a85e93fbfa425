"""The transfer set: a pool in memory and a file on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import INPUTS, network
from PIL import Image

from datafree import InputSpec, TransferSet
from datafree.core.runtime import Runtime
from datafree.data.augment import Augmentation
from datafree.data.pool import Batch, Pool, Queue
from datafree.data.sets import SetCard, read_set
from datafree.data.unlabelled import read_images
from datafree.engine.method import Problem
from datafree.methods.stored import Stored
from datafree.networks.teacher import Teacher


def numbered(*values: int) -> Batch:
    """Images whose every pixel is the given number."""
    pixels = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *INPUTS.shape)
    return Batch(INPUTS.to_network(pixels))


def kept(pool: Pool) -> set[int]:
    return set(pool.pixels[: len(pool), 0, 0, 0].tolist())


def test_the_newest_are_kept() -> None:
    pool = Pool(INPUTS, size=5)
    pool.add(numbered(1, 2, 3))
    assert kept(pool) == {1, 2, 3}
    pool.add(numbered(4, 5, 6))
    assert kept(pool) == {2, 3, 4, 5, 6}
    pool.add(numbered(*range(10, 22)))
    assert kept(pool) == {17, 18, 19, 20, 21}


def test_what_is_saved_has_the_size_of_what_was_added() -> None:
    pool = Pool(INPUTS, size=1000, targets=True)
    pool.add(with_targets(1, 2, 3))
    state = pool.state_dict()
    for values in (state["pixels"], state["columns"]["y"]):  # of a view, a file would hold the empty slots too
        assert values.untyped_storage().nbytes() == values.nbytes


def with_targets(*values: int) -> Batch:
    """`numbered`, each image's target of the class that it has the number of."""
    return Batch(numbered(*values).x, torch.eye(10)[list(values)])


@pytest.mark.parametrize("pool_size", [0, 5])
def test_targets_stay_with_their_images(pool_size: int) -> None:
    pool = Pool(INPUTS, pool_size, targets=True)
    for batch in (with_targets(1, 2, 3), with_targets(4, 5, 6, 7, 8, 9)):
        pool.add(batch)
    again = Pool(INPUTS, pool_size, targets=True)
    again.load_state_dict(pool.state_dict())
    for each in (pool, again) if pool_size else (pool,):
        for batch in each.batches(2, 3, torch.Generator().manual_seed(0)):
            assert INPUTS.to_pixels(batch.x)[:, 0, 0, 0].tolist() == batch.y.argmax(1).tolist()


def test_a_queue_deals_in_the_order_they_came() -> None:
    queue = Queue(INPUTS)
    queue.add(with_targets(1, 2, 3))
    queue.add(with_targets(4, 5))
    assert len(queue) == 5
    assert queue.take(2).y.argmax(1).tolist() == [1, 2]
    again = Queue(INPUTS)
    again.load_state_dict(queue.state_dict())
    batch = again.take(3)
    assert INPUTS.to_pixels(batch.x)[:, 0, 0, 0].tolist() == batch.y.argmax(1).tolist() == [3, 4, 5]
    assert len(again) == 0


def test_batches_are_drawn_from_what_is_kept() -> None:
    pool = Pool(INPUTS, size=50)
    pool.add(numbered(7, 8, 9))
    generator = torch.Generator().manual_seed(0)
    seen = [INPUTS.to_pixels(batch.x)[:, 0, 0, 0] for batch in pool.batches(4, 16, generator)]
    assert [len(row) for row in seen] == [16] * 4
    assert set(torch.cat(seen).tolist()) == {7, 8, 9}


def test_without_keeping_each_image_is_used_once_and_unrounded() -> None:
    pool, x = Pool(INPUTS, size=0), torch.randn(12, *INPUTS.shape)
    pool.add(Batch(x))
    assert torch.equal(torch.cat([batch.x for batch in pool.batches(3, 4, torch.Generator())]), x)


def small_set(**columns: torch.Tensor) -> TransferSet:
    pixels = torch.randint(0, 256, (6, *INPUTS.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TransferSet(SetCard(inputs=INPUTS, provenance="none"), (pixels,), **{k: (v,) for k, v in columns.items()})


def test_a_saved_set_reads_back_with_its_columns_and_provenance(tmp_path: Path) -> None:
    made = small_set(targets=torch.rand(6, 10), logits=torch.randn(6, 10))
    made.save(tmp_path / "set.safetensors")
    found = read_images(tmp_path / "set.safetensors", INPUTS)
    assert found.card == made.card
    for name in ("pixels", "targets", "logits"):
        assert torch.equal(getattr(found, name)[0], getattr(made, name)[0])


def test_rows_are_taken_in_their_order_across_shards() -> None:
    whole = small_set()
    split = TransferSet(whole.card, (whole.pixels[0][:2], whole.pixels[0][2:3], whole.pixels[0][3:]))
    rows = torch.tensor([5, 0, 2, 2, 1, 4])
    assert torch.equal(split.take(rows), whole.pixels[0][rows])
    assert len(split) == 6


def test_a_set_is_read_by_memory_map(tmp_path: Path) -> None:
    pixels = torch.zeros(40_000, 1, 32, 32, dtype=torch.uint8)
    card = SetCard(inputs=InputSpec(shape=(1, 32, 32)), provenance="none")
    TransferSet(card, (pixels,)).save(tmp_path / "big.safetensors")
    found = read_set(tmp_path / "big.safetensors")
    maps = Path("/proc/self/maps").read_text()
    assert "big.safetensors" in maps
    assert found.take(torch.tensor([39_999])).shape == (1, 1, 32, 32)


def test_folders_and_npz_are_read_without_their_labels(tmp_path: Path, images: Path) -> None:
    assert read_images(images, INPUTS).pixels[0].shape == (40, 1, 8, 8)
    for i in range(3):
        (tmp_path / "flat" / "deeper").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 12, 3), 100 * i, dtype=np.uint8)).save(tmp_path / "flat" / "deeper" / f"{i}.png")
    found = read_images(tmp_path / "flat", INPUTS)
    assert found.pixels[0][:, 0, 0, 0].tolist() == [0, 100, 200]
    assert found.card.provenance != "none"


def test_a_cut_a_foreign_and_a_missing_file_are_refused_in_words(tmp_path: Path) -> None:
    small_set().save(tmp_path / "set.safetensors")
    whole = (tmp_path / "set.safetensors").read_bytes()
    for name, content, words in [
        ("cut.safetensors", whole[:-20], "cut short"),
        ("head.safetensors", whole[:30], "cut short"),
        ("text.safetensors", b"hello, this is text", "not a safetensors"),
        ("empty.safetensors", b"", "is an empty file, not a transfer set"),
        ("text.npz", b"hello", "not a plain .npz"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_images(tmp_path / name, INPUTS)
    with pytest.raises(ValueError, match="does not exist"):
        read_images(tmp_path / "nothing.safetensors", INPUTS)


def test_a_network_file_is_not_a_set(teacher_file: Path) -> None:
    with pytest.raises(ValueError, match="not a transfer set"):
        read_images(teacher_file, INPUTS)


def test_a_pool_keeps_targets_only_where_they_are_read() -> None:
    pool = Pool(INPUTS, size=5)
    pool.add(with_targets(1, 2, 3))
    assert all(batch.y is None for batch in pool.batches(2, 3, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("size", [0, 64])
def test_kept_logits_ask_the_teacher_once_and_give_the_same_losses(images: Path, size: int) -> None:
    """With and without a pool, which keeps logits beside its images and brings them back after a restart."""

    def losses(cache: bool) -> tuple[list[float], int]:
        runtime = Runtime("cpu")
        teacher, student = network(1), network(2).module
        problem = Problem(Teacher(teacher.module, INPUTS, runtime), student, INPUTS, 10)
        made = Stored(path=images, look={"augment": Augmentation()}, cache=cache).start(problem, runtime)
        pool, found = Pool(INPUTS, size), []
        for _ in range(3):
            pool.add(made.synthesize(32))
            again = Pool(INPUTS, size)
            again.load_state_dict(pool.state_dict())
            source = again if size else pool
            found += [made.loss(student, batch).item() for batch in source.batches(2, 16, runtime.random)]
        return found, runtime.counters.teacher_queries

    (plain, asked), (kept, once) = losses(cache=False), losses(cache=True)
    assert kept == pytest.approx(plain, rel=1e-5)
    assert (asked, once) == (96, 40)


def test_kept_logits_of_augmented_images_are_refused(images: Path) -> None:
    runtime = Runtime("cpu")
    problem = Problem(Teacher(network(1).module, INPUTS, runtime), network(2).module, INPUTS, 10)
    with pytest.raises(ValueError, match=r"leave --method.cache out"):
        Stored(path=images, look={"augment": Augmentation(crop=1)}, cache=True).start(problem, runtime)
