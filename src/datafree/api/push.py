"""The function `push`: a finished run's student as a folder of the Hugging Face Hub, with a model card; also uploaded."""

import importlib
import json
import shutil
import tempfile
from pathlib import Path

from datafree.core.files import refuse_no_file, replace_atomically, write_text
from datafree.core.settings import first_line
from datafree.engine.record import STUDENT, read_record
from datafree.networks.network import read_card
from datafree.reports.card import config, model_card

HUB = "hf://"
WEIGHTS, CONFIG, README = "model.safetensors", "config.json", "README.md"


def push(run: str | Path, to: str | Path, *, private: bool = False) -> str:
    """Write a finished run's student as a folder of the Hub's layout, or upload such a folder.

    The folder has the student as `model.safetensors`, `config.json` for a person, and `README.md`: a model card that says how
    the student was made, from which teacher (by hash), with which real data, and how good it was where that was measured.
    What was not measured is not in it. `datafree.load` and `datafree pack` read the folder, as `hf-hub:OWNER/NAME` too.

    Args:
        run: folder of the run.
        to: a folder, new or with these files only, or `hf://OWNER/NAME`, for which `huggingface_hub` must be logged in.
        private: whether a repository that does not exist yet becomes private.

    Returns:
        The folder, or the address of the repository.

    Raises:
        ValueError: the folder holds no finished run or `to` other files, huggingface_hub is missing, or the upload fails.
        OSError: a file cannot be written.
    """
    if not str(to).startswith(HUB):
        _write(Path(run), Path(to))
        return str(to)
    name = str(to).removeprefix(HUB)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(run), Path(folder))
        return _upload(Path(folder), name, private)


def _write(run: Path, folder: Path) -> None:
    student = run / STUDENT
    record = read_record(run / "run.json")
    if record.get("status") != "finished" or not student.is_file():
        raise ValueError(f"{run} holds no finished run; distil on, or name another folder.")
    others = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name a new one.")
    if strangers := sorted({*others} - {WEIGHTS, CONFIG, README}):
        raise ValueError(f"{folder} holds other files ({strangers[0]!r} first); name a new folder.")
    for name in (WEIGHTS, CONFIG, README):
        refuse_no_file(folder / name)
    card = read_card(student)
    replace_atomically(folder / WEIGHTS, lambda temporary: shutil.copyfile(student, temporary), parents=True)
    write_text(folder / CONFIG, json.dumps(config(card), indent=2) + "\n")
    write_text(folder / README, model_card(card, record))


def _upload(folder: Path, name: str, private: bool) -> str:
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ValueError("huggingface_hub is not installed; pip install 'datafree[hub]'.") from error
    try:
        hub.create_repo(name, private=private, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="A student distilled without data")
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise ValueError(
            f"{HUB}{name} could not be uploaded ({first_line(error)}); check the name, the network, and `hf auth login`."
        ) from error
    return f"https://huggingface.co/{name}"
