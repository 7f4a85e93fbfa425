"""What diffusion augmentation brings: each host without DDA, with it, and without it in the time that DDA took.

    python benchmarks/dda.py dda-fashion-mnist --data FOLDER --seeds 0 1

Students with a host take the same number of steps on batches of one size, with the same loss (DDA's), so that only the
images differ. `steps` is the host without DDA. `dda` is the host's bank and its variations by a diffusion model trained on it.
`time` is the host without DDA, with a bank so much larger that the whole run takes as many CPU seconds as `dda` did; where
`dda` took no longer than `steps`, the results repeat the `steps` run. KD on real data takes as many steps by plain
distillation, and DFAD follows its own recipe. Every part is a `datafree` command with a run folder of its own, so the same line
resumes.
"""

import argparse
import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafree import evaluate, load
from datafree.core.runtime import Runtime
from datafree.recipes import find_recipe
from datafree.reports import record


@dataclass(frozen=True)
class Comparison:
    """One teacher and student, and the hosts that are compared; flags as on the command line."""

    task: str
    data: str  # FOLDER/{data}_train.npz and {data}_test.npz
    teacher: str
    teach: str  # flags of `datafree teach`; empty: --teacher names the file
    student: str
    hosts: tuple[str, ...]
    distil: str  # flags of every student
    host_flags: str = ""  # flags of the students with a host
    dfad: str = ""  # flags of the DFAD student; empty: none


COMPARISONS = {
    "dda-fashion-mnist": Comparison(
        task="Fashion-MNIST at 32 pixels, resnet8 to resnet8-half",
        data="fashion_mnist",
        teacher="resnet8",
        teach="--inputs 1x32x32 --epochs 12 --lr 0.1 --flip --crop 2 --precision bf16",
        student="resnet8-half",
        hosts=("deepinversion", "csd", "cmi"),
        distil="--precision bf16",
        dfad="--recipe dfad-mnist-light --method.latent.width 16 --plan.eval-every 0",
    ),
    "dda-cifar10-small": Comparison(
        task="CIFAR-10, third-party ResNet-20 to resnet20-half",
        data="cifar10",
        teacher="resnet20",
        teach="",
        student="resnet20-half",
        hosts=("csd",),
        distil="--precision bf16",
        host_flags="--method.look.augment.crop 4",
    ),
}
KINDS = ("steps", "dda", "time")


def main() -> None:
    """Run one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=COMPARISONS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the .npz files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once (default 1)")
    parser.add_argument("--teacher", type=Path, help="network file of a teacher; left out: one is trained")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run folders (default runs)")
    arguments = parser.parse_args()
    case, folder = COMPARISONS[arguments.name], arguments.runs / arguments.name
    train, test = (arguments.data / f"{case.data}_{split}.npz" for split in ("train", "test"))
    teacher = arguments.teacher or folder / "teacher.safetensors"
    if not teacher.exists():
        _datafree(f"teach {train} --arch {case.teacher} {case.teach} --seed 0 --out {teacher}")

    def student(seed: int, method: str, kind: str, flags: str) -> dict[str, Any]:
        out = folder / f"seed-{seed}" / f"{method}-{kind}"
        how = f"--student {case.student} --eval {test} --seed {seed} {case.distil}"
        _datafree(f"distill {teacher} {how} {flags} --out {out}")
        found = json.loads((out / "run.json").read_text(encoding="utf-8"))
        return _entry(method, kind, seed, found)

    def of_seed(seed: int) -> list[dict[str, Any]]:
        plan = find_recipe(f"dda-{case.hosts[0]}-light").plan
        late = plan.rounds - plan.warmup
        entries = []
        for host in case.hosts:
            light = f"--recipe dda-{host}-light {case.host_flags}"
            plain = student(seed, host, "steps", f"{light} {_without_dda(host, 2000, plan.images_per_round, late)}")
            varied = student(seed, host, "dda", light)
            # How many more images the host makes, at its bank's pace, in the time that DDA took longer; in whole rounds.
            extra = (varied["cpu_s"] - plain["cpu_s"]) / plain["bank_s"] * 2000
            bank = 2000 + max(0, round(extra / plan.images_per_round) * plan.images_per_round)
            if bank > 2000:
                longer = student(seed, host, "time", f"{light} {_without_dda(host, bank, plan.images_per_round, late)}")
            else:  # DDA took no longer than the host without it
                longer = plain | {"budget": "time"}
            entries += [plain, varied, longer]
        if case.dfad:
            entries.append(student(seed, "dfad", "own-plan", case.dfad))
        real = f"--recipe stored-mnist --method.path {train} --plan.rounds {late} --plan.steps {plan.steps}"
        real += f" --plan.batch {plan.batch} --plan.lr {plan.lr} --plan.eval-every 0"
        return [*entries, student(seed, "kd_real", "steps", real)]

    with ThreadPoolExecutor(arguments.jobs) as pool:
        entries = [entry for entries in pool.map(of_seed, arguments.seeds) for entry in entries]
    named = " --teacher FILE" if arguments.teacher else ""
    result = {
        "task": case.task,
        "command": f"python benchmarks/dda.py {arguments.name} --data FOLDER{named} --seeds {_joined(arguments.seeds)}",
        "teacher_command": f"datafree teach TRAIN --arch {case.teacher} {case.teach}" if case.teach else "packed, third party",
        "jobs": arguments.jobs,
        "machine": Runtime("cpu").machine(),
        "versions": record.versions(),
        "teacher": round(evaluate(load(teacher), str(test), device="cpu").accuracy, 2),
        "comparison": entries,
    }
    out = Path(__file__).parent / "results" / f"{arguments.name}.json"
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {out}")


def _without_dda(host: str, bank: int, new: int, late: int) -> str:
    """Flags of a host without variations: its bank, then the same rounds of the student."""
    fill = bank // new
    flags = f"--method.variations 0 --method.bank {bank} --plan.warmup {fill} --plan.rounds {fill + late}"
    first = f" --method.host.warmup-images {bank}" if host == "csd" else ""  # csd makes the bank before it looks at the student
    return f"{flags} --plan.pool-size {bank + late * new}{first}"


def _entry(method: str, kind: str, seed: int, found: dict[str, Any]) -> dict[str, Any]:
    results, plan = found["results"], found["identity"]["plan"]
    asked = {name: round(results.get(name, 0.0), 1) for name in ("bank_s", "diffusion_training_s", "variation_s")}
    return {
        "method": method,
        "budget": kind,
        "seed": seed,
        "last": round(results["student_accuracy"], 2),
        "student_steps": (plan["rounds"] - plan["warmup"]) * plan["steps"],
        "images": results["images"],
        "variations": results.get("variations", 0),
        "kept": results.get("kept", 0),
        **{name: results[name] for name in ("wall_s", "cpu_s", "peak_mb")},
        **asked,
    }


def _joined(values: list[int]) -> str:
    return " ".join(map(str, values))


def _datafree(line: str) -> None:
    print(f"$ datafree {line}", flush=True)
    subprocess.run([sys.executable, "-m", "datafree.cli", *shlex.split(line)], check=True)  # so that its peak memory is its own


if __name__ == "__main__":
    main()
