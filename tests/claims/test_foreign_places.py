"""What stands where a command is to write: nothing of others is destroyed, and the refusal says what to do."""

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import INPUTS, TINY, network

import datafree.api.demo as demo_module
from datafree import demo
from datafree.cli.app import main
from datafree.core.files import replace_atomically, temporary_of, write_text
from datafree.data.sets import noise_set
from datafree.engine.folder import RunDir
from datafree.engine.parts import parts_of


def teach(data: Path, out: Path, *more: str) -> int:
    return main(["teach", str(data), "--arch", TINY, "--device", "cpu", "--out", str(out), "--epochs", *(more or ("1",))])


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a pipe"])
def test_what_is_no_file_is_not_replaced_by_one(kind: str, tmp_path: Path, images: Path) -> None:
    out = tmp_path / "out.safetensors"
    if kind == "folder":
        out.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe")
        out.symlink_to("pipe") if kind == "link to a pipe" else (tmp_path / "pipe").rename(out)
    before = os.lstat(out)
    with pytest.raises(OSError, match=r"is no regular file, and is not replaced by one; name a new file"):
        replace_atomically(out, lambda temporary: temporary.write_text("x"))
    assert teach(images, out) == 1
    assert (os.lstat(out).st_ino, os.lstat(out).st_mode) == (before.st_ino, before.st_mode)
    assert not (tmp_path / "out.safetensors.parts").exists()


def test_a_link_in_the_place_of_a_temporary_file_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("dear")
    (tmp_path / "h").mkdir()
    found = tmp_path / "h" / "set.safetensors"
    for path in (found, found.with_suffix(".preview.png"), tmp_path / "h" / "a.json", tmp_path / "h" / "set.npz"):
        temporary_of(path).symlink_to("../precious.txt")
    noise_set(INPUTS, 4, 0).save(found)
    assert main(["inspect", str(found)]) == 0
    write_text(tmp_path / "h" / "a.json", "{}")
    assert main(["export-set", str(found), "--to", "npz", "--out", str(tmp_path / "h" / "set.npz")]) == 1  # it has no labels
    assert precious.read_text() == "dear"
    assert (tmp_path / "h" / "a.json").read_text() == "{}"


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    write_text(tmp_path / "link", "new")
    assert ((tmp_path / "file").read_text(), (tmp_path / "link").read_text()) == ("old", "new")


def test_a_demo_takes_no_folder_of_others_and_its_own_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    (photos / "run").mkdir(parents=True)
    (photos / "cat.png").write_text("meow")
    (photos / "demo.txt").write_text("of another")
    with pytest.raises(ValueError, match=r"holds files and not a demo's demo\.txt; name a new folder"):
        demo(out=photos)
    with pytest.raises(ValueError, match="is no folder"):
        demo(out=photos / "cat.png")
    assert (photos / "cat.png").read_text() == "meow"

    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_module, "digits", stopped)
    for _ in range(2):  # stopped and begun again, with what the first left
        with pytest.raises(KeyboardInterrupt):
            demo(out=tmp_path / "demo")
        assert [path.name for path in (tmp_path / "demo").iterdir()] == ["demo.txt"]
        (tmp_path / "demo" / "run").mkdir()
        (tmp_path / "demo" / "link").symlink_to(photos)
    assert (photos / "cat.png").exists()


def test_a_taught_network_is_not_replaced_by_one_of_other_settings(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.safetensors"
    assert teach(images, out) == 0
    made = out.read_bytes()
    assert teach(images, out, "1", "--lr", "0.01") == 1
    assert "exists and is not the network that this line makes" in capsys.readouterr().err
    assert teach(images, out) == 0
    assert out.read_bytes() == made
    network(1).save(out)
    assert teach(images, out) == 1


def test_a_lesson_that_is_refused_does_not_stand_in_the_way_of_the_corrected_one(tmp_path: Path, images: Path) -> None:
    masks = tmp_path / "masks.npz"
    np.savez(masks, images=np.zeros((4, 8, 8), np.uint8), masks=np.ones((4, 8, 8), np.uint8))
    out = tmp_path / "o.safetensors"
    assert teach(masks, out) == 1
    assert teach(images, out, "1", "--batch", "8", "--lr", "1e30") == 1  # its loss becomes NaN
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npz", "masks.npz"]
    assert teach(images, out) == 0


def test_parts_that_hold_work_are_kept_when_a_setting_turns_out_wrong(tmp_path: Path) -> None:
    def work() -> None:
        with parts_of(tmp_path / "file", {}) as run:
            (run.path / "00000000.safetensors").write_text("a batch")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        work()
    assert (tmp_path / "file.parts" / "00000000.safetensors").exists()


def test_a_link_within_the_parts_or_in_their_place_is_only_unlinked(tmp_path: Path) -> None:
    for name in ("other", "big"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "cat.txt").write_text("meow")
    (tmp_path / "file.parts").symlink_to("big")
    with parts_of(tmp_path / "file", {}) as run:
        (run.path / "images").symlink_to(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "other"]
    assert (tmp_path / "other" / "cat.txt").exists()


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("dear")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to("../precious.txt")
    with pytest.raises(ValueError, match="is a link, which no run makes"):
        RunDir(tmp_path / "run", {})
    assert (tmp_path / "precious.txt").read_text() == "dear"
