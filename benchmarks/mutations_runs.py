"""Spoilt folders of runs, of unfinished `teach` and `synthesize` too, each with the line that would go on with it."""

import json
import shlex
import shutil
from pathlib import Path
from random import Random
from typing import Any

import torch
from fingerprints import BN
from mutation_archives import no_file, spoilt_pickle
from mutation_ways import FORGED, NUMBERS, STRANGE, deep, put, raw, text_of, tree
from mutations_networks import spoilt_header, spoilt_tensors
from reliability_kills import SET, TINY, lines
from torch import Tensor

# Lines that were stopped after a checkpoint: the folder of each lies at its own name, and is copied to where it goes on.
FOLDERS = {
    name: name
    for name in (
        "dfad cmi dda-csd stored-pool procedural sttss-batch-norm csd deepinversion-adaptive fast nayer zskt dfq blend-dfad"
    ).split()
}
FOLDERS |= {
    "teach": "taught.safetensors.parts",
    "set-dafl": "set-dafl.safetensors.parts",
    "set-dda": "set-dda.safetensors.parts",
}
STOPPED = {name: f"begun-{name}" for name in FOLDERS}
FINISHED = "finished"  # a run that ended, of the line "dfad"


def _copied(name: str, base: str | None = None) -> Path:
    """A folder that may be spoilt, where the line `name` finds it."""
    folder = Path(FOLDERS[name])
    shutil.copytree(Path(base or STOPPED[name]).resolve(), folder)
    return folder


def _stopped(random: Random) -> tuple[str, Path, str]:
    """A line, its folder and the line as it is given again."""
    name = random.choice(("dfad", "teach", "set-dafl", *FOLDERS))
    base = FINISHED if name == "dfad" and random.random() < 0.3 else None
    return name, _copied(name, base), lines([name])[name]


def records(random: Random) -> tuple[str, str]:
    name, folder, line = _stopped(random)
    text = text_of(random, tree(random, json.loads((folder / "run.json").read_text())))
    put(folder / "run.json", text)
    return f"{name}: {text[:2000]}", line


def record_bytes(random: Random) -> tuple[str, str]:
    name, folder, line = _stopped(random)
    file = folder / "run.json"
    whole = (
        b"",
        b"[]",
        b"1",
        b"null",
        b"[" * 50_000,
        b'{"identity": 3}',
        json.dumps(deep(200)).encode(),
        b"\xff\xfe",
        b"{}",
        bytes(99),
    )
    whole += (
        b'{"format": 2, "identity": {}}',
        b'{"a":' * 9000,
        b"1" * 9999,
        b'"' + b"x" * 2**25 + b'"',
        b"\xef\xbb\xbf{}",
        b"NaN",
    )
    data = raw(random, file.read_bytes()) if random.random() < 0.6 else random.choice(whole)
    put(file, data)
    return f"{name}: {data[:300]!r}", line


def logs(random: Random) -> tuple[str, str]:
    name, folder, line = _stopped(random)
    file = folder / "log.csv"
    rows = [row.split(",") for row in (file.read_text() if file.exists() else "round,loss\n1,2\n").splitlines()]
    for _ in range(random.choice((1, 2))):
        row = random.choice(rows)
        row[random.randrange(len(row))] = str(random.choice((*STRANGE, *NUMBERS, "1_0", "nan", '"', "٣", "round")))
    text = "\n".join(",".join(row) for row in rows) + "\n"
    others = (
        "",
        "\n",
        "round\n",
        "a,b\n1,2\n",
        '"' * 999,
        f"round,{'x' * 200_000}\n1,2\n",
        "round,round\n1,2\n",
        "\0",
        FORGED,
        "round\n1\n" * 9,
    )
    data = random.choice(
        (text.encode("utf-8", "replace"), raw(random, text.encode("utf-8", "replace")), random.choice(others).encode())
    )
    put(file, data)
    return f"{name}: {data[:300]!r}", line


def checkpoint_trees(random: Random) -> tuple[str, str]:
    name, folder, line = _stopped(random)
    file = folder / "checkpoint.pt"
    if not file.exists():
        return checkpoint_bytes(random)
    state = torch.load(file, weights_only=True)
    what = []
    for _ in range(random.choice((1, 1, 2))):
        parent, key, path = random.choice(_nodes(state))
        parent[key] = _other(random, parent[key])
        what.append(f"{path} is {str(parent[key])[:80]}")
        if random.random() < 0.15:
            del parent[key]
    torch.save(state, file)
    return f"{name}: {what}", line


def _nodes(value: Any, path: str = "") -> list[tuple[Any, Any, str]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [each for key in keys for each in ((value, key, f"{path}.{key}"), *_nodes(value[key], f"{path}.{key}"))]


def _other(random: Random, value: Any) -> Any:
    """Something else in the place of an entry of a checkpoint."""
    if isinstance(value, Tensor) and random.random() < 0.8:
        ways = (
            lambda: value[None], lambda: value.flatten()[:1], lambda: value.to(torch.float16), lambda: value.to(torch.int64),
            lambda: torch.full_like(value, 255), lambda: value.expand(3, *value.shape), lambda: torch.zeros(1).expand(10**12),
            lambda: value.to("meta"), lambda: value.new_zeros(0), lambda: torch.cat([value, value]) if value.dim() else value,
            lambda: torch.zeros(1, dtype=value.dtype).expand(10**11, *value.shape[1:]), lambda: value.to_sparse(),
            lambda: value.float() * float("nan"), lambda: torch.zeros(value.shape, dtype=torch.complex64),
            lambda: -value.long() - 9,
        )  # fmt: skip
        return random.choice(ways)()
    return random.choice((*STRANGE, *NUMBERS, torch.zeros(3), torch.zeros(1).expand(10**12), (1, 2), {"x": torch.ones(1)}))


def checkpoint_bytes(random: Random) -> tuple[str, str]:
    name, folder, line = _stopped(random)
    file = folder / "checkpoint.pt"
    good = file.read_bytes() if file.exists() else b"PK\x03\x04"
    rubbish = (b"", b"PK\x03\x04", b"\x80\x02.", b"x" * 999, good[:-40])
    state = torch.load(file, weights_only=True) if file.exists() else {"round": 0}
    way = random.choice(("bytes", "rubbish", "pickle", "pickle", "pickle"))
    data = spoilt_pickle(random, state) if way == "pickle" else raw(random, good) if way == "bytes" else random.choice(rubbish)
    put(file, data)
    return f"{name}: {way}, {len(data)} bytes", line


def run_files(random: Random) -> tuple[str, str]:
    """Files of a run that are folders, pipes, links or missing, and others among them."""
    _, folder, line = _stopped(random)
    there = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    there += [
        folder / each for each in (".lock", "images", "student.safetensors", ".run.json.writing", "checkpoint-2-1.pt", "x")
    ]
    path = random.choice(there)
    way = random.choice(("thing", "thing", "thing", "missing", "bytes", "other", "whole"))
    if way == "thing":
        way = no_file(random, path)
    elif way == "whole":
        way, path = no_file(random, folder), folder
    elif way == "missing" and path.is_file():
        path.unlink()
    elif path.is_file():
        put(
            path,
            raw(random, path.read_bytes()) if way == "bytes" else Path(random.choice((BN, SET, "digits.npz"))).read_bytes(),
        )
    else:
        put(path, b"x") if not path.is_dir() else None
    return f"{path} is {way}", line


def batches(random: Random) -> tuple[str, str]:
    """What an unfinished `synthesize` keeps: batches, spoilt as sets are."""
    folder = _copied("set-dafl")
    base = str(random.choice(sorted(folder.glob("0*.safetensors"))))
    what = random.choice((spoilt_header, spoilt_tensors))(random, base)
    return what, lines(["set-dafl"])["set-dafl"]


def students(random: Random) -> tuple[str, str]:
    """The student of a finished run, spoilt; and no page, so that it is written again."""
    folder = _copied("dfad", FINISHED)
    if random.random() < 0.5:
        (folder / "report.html").unlink()
    base = str(folder / "student.safetensors")
    what = random.choice((spoilt_header, spoilt_tensors, _spoilt_bytes))(random, base)
    return what, lines(["dfad"])["dfad"]


def _spoilt_bytes(random: Random, base: str) -> str:
    return put(Path(base), raw(random, Path(base).read_bytes()))


def pages(random: Random) -> tuple[str, str]:
    """A finished run without its page, which is written again from a record, a log and images that are spoilt."""
    folder = _copied("dfad", FINISHED)
    (folder / "report.html").unlink()
    record = json.loads((folder / "run.json").read_text())
    free = {key: value for key, value in record.items() if key not in ("identity", "status", "format")}
    if random.random() < 0.6:
        put(folder / "run.json", text_of(random, record | tree(random, free)))
    for image in sorted((folder / "images").glob("*")) if random.random() < 0.5 else ():
        put(image, raw(random, image.read_bytes()))
    if random.random() < 0.4:
        put(folder / "log.csv", raw(random, (folder / "log.csv").read_bytes()))
    return (folder / "run.json").read_text()[:1000], lines(["dfad"])["dfad"]


def configs(random: Random) -> tuple[str, str]:
    record = json.loads((Path(random.choice((FINISHED, STOPPED["cmi"]))) / "run.json").read_text())
    part = random.choice(("identity", "identity", None))
    changed = tree(random, record) if part is None else record | {part: tree(random, record[part])}
    text = text_of(random, changed)
    put(Path("foreign.json"), text)
    line = f"distill {BN} --config foreign.json --student small-cnn-quarter --device cpu --out run"
    more = random.choice((TINY, "--dry-run", "--dry-run", "--plan.rounds 1 --plan.steps 1", "--help", "--budget 8images"))
    return text[:2000], f"{line} {more}"


def outputs(random: Random) -> tuple[str, str]:
    """Lines whose output lies in the way of something else."""
    name = random.choice(
        ("dfad", "teach", "set-dafl", "export-npz", "export-imagefolder", "export-webdataset", "pack", "inspect")
    )
    line = lines([name])[name]
    words = shlex.split(line)
    out = Path(words[words.index("--out") + 1]) if "--out" in words else Path("set.preview.png")
    way = no_file(random, random.choice((out, out, out.with_name(f".{out.name}.writing"), out.with_name(f"{out.name}.parts"))))
    return f"{out}: {way}", line


RUNS = {
    "records": records,
    "more records": records,
    "record bytes": record_bytes,
    "logs": logs,
    "checkpoint trees": checkpoint_trees,
    "more checkpoint trees": checkpoint_trees,
    "checkpoint bytes": checkpoint_bytes,
    "run files": run_files,
    "batches": batches,
    "students": students,
    "pages": pages,
    "configs": configs,
    "outputs": outputs,
}
