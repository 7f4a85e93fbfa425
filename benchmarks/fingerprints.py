"""What a refactor may not change: fingerprints of small runs over every method, both tasks, bf16, two processes and resume.

    python benchmarks/fingerprints.py --out before.json
    python benchmarks/fingerprints.py --out after.json --against before.json

Two machines may round differently, so make both files on the same machine.
"""

import argparse
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

BN, PLAIN, SEGMENTER = "bn.safetensors", "plain.safetensors", "segmenter.safetensors"
SHORT = "--plan.rounds 4 --plan.steps 3 --plan.batch 8 --plan.log-every 1 --plan.save-every 2 --plan.eval-every 0 --seed 3"
POOLED = f"{SHORT} --plan.images-per-round 8 --plan.pool-size 24 --plan.warmup 1"
CLASSIFIER = f"distill {BN} --student small-cnn-quarter"
DDA = "--method.bank 16 --method.batch 8 --method.sources 24 --method.omega -1 --method.diffusion.updates 60"
DDA += " --method.diffusion.width 8 --method.diffusion.batch 8 --method.diffusion.steps 4"
CSD = "--method.warmup-images 8 --method.warmup-steps 3 --method.inversion.steps 3 --method.inversion.batch 8"
HOSTED = CSD.replace("--method.", "--method.host.")

RUNS = {
    "teach": f"teach digits.npz --arch small-cnn-half --epochs 2 --out {BN} --seed 3",
    "teach-plain": f"teach big.npz --arch lenet5 --epochs 1 --out {PLAIN} --seed 3",
    "teach-segmenter": f"teach masks.npz --arch compact-segmenter-half --epochs 1 --batch 8 --out {SEGMENTER} --seed 3",
    "dfad": f"{CLASSIFIER} --recipe dfad-digits {SHORT}",
    "dfad-bf16": f"{CLASSIFIER} --recipe dfad-digits {SHORT} --precision bf16",
    "dfad-pool": f"{CLASSIFIER} --recipe dfad-digits {POOLED} --method.generator-steps 2",
    "dfad-segmentation": f"distill {SEGMENTER} --student compact-segmenter-half --recipe dfad-camvid-light {SHORT}",
    "dafl": f"{CLASSIFIER} --recipe dafl-mnist-light {SHORT} --method.batch 8",
    "zskt": f"{CLASSIFIER} --recipe zskt-mnist-light {SHORT} --method.batch 8 --method.reuses 2",
    "dfq": f"{CLASSIFIER} --recipe dfq-light {SHORT} --method.batch 8 --method.adversary.rise-until 0.5",
    "sttss": f"distill {PLAIN} --student lenet5-half --recipe sttss-mnist-light {POOLED} --method.inversion.steps 6",
    "sttss-batch-norm": f"{CLASSIFIER} --recipe sttss-mnist {POOLED} --method.inversion.steps 9 --method.balanced "
    "--method.feature pre-activation --method.inversion.patience 2 --method.sigma-scales deviation",
    "sttss-bf16": f"distill {PLAIN} --student lenet5-half --recipe sttss-mnist {POOLED} --method.inversion.steps 4 "
    "--method.targets dirichlet --precision bf16",
    "deepinversion": f"{CLASSIFIER} --recipe deepinversion-cifar10 {POOLED} --plan.synthesis-rounds 3 "
    "--method.inversion.steps 5",
    "deepinversion-adaptive": f"{CLASSIFIER} --recipe deepinversion-cifar10 {POOLED} --plan.synthesis-rounds 0 "
    "--method.inversion.steps 9 --method.inversion.patience 2 --method.inversion.scale-free --method.adaptive 1 "
    "--method.l2 0.1",
    "cmi": f"{CLASSIFIER} --recipe cmi-cifar10 {POOLED} --method.inversion.steps 4 --method.inversion.batch 5 "
    "--method.memory-size 12 --method.negatives 6 --method.latent.width 8",
    "csd": f"{CLASSIFIER} --recipe csd-cifar10 {POOLED} {CSD} --method.latent.width 8",
    "csd-bf16": f"{CLASSIFIER} --recipe csd-cifar10 {POOLED} {CSD} --method.latent.width 8 --precision bf16",
    "dda-csd": f"{CLASSIFIER} --recipe dda-csd-light {POOLED} {DDA} {HOSTED}",
    "dda-deepinversion": f"{CLASSIFIER} --recipe dda-deepinversion-light {POOLED} {DDA} --method.host.inversion.steps 3 "
    "--method.same-class --method.features 0",
    "dda-cmi": f"{CLASSIFIER} --recipe dda-cmi-light {POOLED} {DDA} --method.host.inversion.steps 3",
    "fast": f"{CLASSIFIER} --recipe fast-light {POOLED} --method.inversion.batch 8 --method.inversion.steps 3 "
    "--method.latent.size 16 --method.latent.width 8 --method.adversary.weight 1 --method.reset-first-layer-at 0.5",
    "nayer": f"{CLASSIFIER} --recipe nayer-light {POOLED} --method.inversion.batch 8 --method.inversion.steps 3 "
    "--method.latent.size 16 --method.latent.width 8 --method.adversary.weight 1 --method.generator-life 2",
    # A budget of time and the precision auto are measured, so two runs would differ. Of a segmenter auto takes the sizes of the
    # recipe as they are, unless an image takes a third of a second.
    "auto": f"distill {SEGMENTER} --student compact-segmenter-half --budget 320images --precision fp32 --seed 3",
    "procedural": f"{CLASSIFIER} --recipe procedural-light {POOLED} --method.supply.batch 6",
    "procedural-segmentation": f"distill {SEGMENTER} --student compact-segmenter-half --recipe procedural-light-colour "
    f"{POOLED}",
    "blend-dfad": f"{CLASSIFIER} --recipe blend-dfad-mnist-light {SHORT}",
    "stored": f"{CLASSIFIER} --recipe stored-mnist --method.path digits.npz {SHORT}",
    "stored-pool": f"{CLASSIFIER} --recipe stored-sttss-mnist --method.path digits.npz {POOLED}",
    "stored-cache": f"{CLASSIFIER} --recipe stored-mnist --method.path digits.npz {SHORT} --method.cache "
    "--method.look.augment.crop 0",
    "stored-segmentation": f"distill {SEGMENTER} --student compact-segmenter-half --recipe stored-mnist "
    f"--method.path masks.npz {SHORT}",
    "set-sttss": f"synthesize {PLAIN} --recipe sttss-mnist-light --n 24 --batch 8 --method.inversion.steps 5 "
    "--out set-sttss.safetensors --seed 3",
    "set-deepinversion": f"synthesize {BN} --recipe deepinversion-cifar10 --n 24 --batch 8 --method.inversion.steps 5 "
    "--shard 2/3 --pixels float16 --out set-deepinversion.safetensors --seed 3",
    "set-dafl": f"synthesize {BN} --recipe dafl-mnist-light --n 24 --batch 8 --out set-dafl.safetensors --seed 3",
    "set-dda": f"synthesize {BN} --recipe dda-deepinversion-light {DDA} --n 24 --batch 8 --method.host.inversion.steps 3 "
    "--out set-dda.safetensors --seed 3",
    "resumed-dfad": f"{CLASSIFIER} --recipe dfad-digits --plan.rounds 400 --plan.log-every 1 --plan.save-every 7 --seed 3",
    "two-dfad": f"{CLASSIFIER} --recipe dfad-digits {POOLED}",
    "two-dda-csd": f"{CLASSIFIER} --recipe dda-csd-light {POOLED} {DDA} {HOSTED}",
}


def data() -> None:
    """Small sets from seeded random numbers, with enough structure to learn from."""
    random = np.random.default_rng(0)
    for name, n, side, channels in (("digits", 160, 8, 1), ("big", 160, 32, 1), ("masks", 24, 32, 3)):
        labels = np.arange(n) % 10
        images = random.integers(0, 256, (n, side, side, channels)) // 2
        for image, label in zip(images, labels, strict=True):
            image[label % side : label % side + side // 4] += 100
        arrays = {"images": images.astype(np.uint8)[..., 0] if channels == 1 else images.astype(np.uint8), "labels": labels}
        if name == "masks":
            arrays["labels"] = (images.sum(3) // 256).astype(np.uint8)
        np.savez(f"{name}.npz", **arrays)


def fingerprint(name: str, line: str) -> str:
    """The hash of a run's student, or of the tensors in a file."""
    command = [sys.executable, "-m", "datafree.cli", *shlex.split(line)]
    if line.startswith("distill"):
        command += ["--out", name, "--device", "cpu"]
    if name.startswith("two-"):
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
        command = [sys.executable, *launcher, *command[1:]]
    if name.startswith("resumed-"):
        interrupt(command, Path(name))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    if line.startswith("distill"):
        return str(json.loads((Path(name) / "run.json").read_text())["student"]["sha256"])
    out = Path(shlex.split(line)[shlex.split(line).index("--out") + 1])
    file = next(iter([*sorted(out.parent.glob(f"{out.stem}-0*")), out]))
    digest = hashlib.sha256()
    for key, value in sorted(load_file(file).items()):
        digest.update(f"{key} {list(value.shape)} {value.dtype}".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def interrupt(command: list[str], folder: Path) -> None:
    """Kill with -9 after a checkpoint, then stop with SIGTERM after another."""
    for number, rounds in ((signal.SIGKILL, 30), (signal.SIGTERM, 120)):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        log = folder / "log.csv"
        while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > rounds):
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait() in (-9, 130), process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="runs by name; the teachers are always made")
    given = parser.parse_args()
    out, before = given.out.absolute(), json.loads(given.against.read_text()) if given.against else {}
    os.environ["OMP_NUM_THREADS"] = "1"
    found, differing = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        data()
        for name, line in RUNS.items():
            if name in given.only or name.startswith("teach"):
                found[name] = fingerprint(name, line)
                old = before.get(name)
                word = "same" if old == found[name] else "DIFFERS" if old else "new" if before else ""
                differing += [name] if word == "DIFFERS" else []
                print(f"{name:<24} {found[name][:16]} {word}", flush=True)
    out.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(f"{len(differing)} of {len(found)} differ: {', '.join(differing)}" if differing else 0)


if __name__ == "__main__":
    main()
