"""Imports point one way; only some modules may print; only one knows of ranks."""

import ast
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "datafree"

# Each module may import from its own line and from lines above it, never from below.
ORDER = """
settings state nets.shape
files ranks modes nets.plain nets.residual nets.segmenters
spec moments augment images plan
taps
losses
runtime nets.classifiers nets.generators data
nets
answers
folding architectures setfile textures inversion
transfer metrics profile network record
method
pictures
sources features diffusion.diffuser experiments
diffusion.embedded diffusion.pretrained
diffusion.filter diffusion
methods.cmi methods.csd methods.deepinversion methods.dfad methods.stored methods.sttss
methods.dda
methods
recipe rundir runlog stopping export
preparation report teaching recipes.plans
recipes.dda recipes.dfad recipes.inversion recipes.stored recipes.sttss
recipes budget
engine synthesis
distillation
verbs
demonstration reproduction
commands.arguments
commands commands.demo commands.evaluate commands.export_set commands.inspect commands.pack commands.reproduce commands.teach
commands.distill commands.synthesize
cli
"""
RANK = {module: i for i, line in enumerate(ORDER.split("\n")) for module in line.split()}
FREE = {"__init__"}
NEVER = {
    "engine": "methods",
    "methods.cmi": "data",
    "methods.csd": "data",
    "methods.dda": "data",
    "methods.deepinversion": "data",
    "methods.dfad": "data",
    "methods.stored": "data",
    "methods.sttss": "data",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("datafree"):
            base = node.module.removeprefix("datafree").removeprefix(".")
            names = [f"{base}.{alias.name}".removeprefix(".") for alias in node.names]
            found |= {name for name in names if name in RANK} or {base}
    return found - {""}


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def test_every_module_has_its_place_in_the_order() -> None:
    assert set(MODULES) - FREE == set(RANK)


def test_imports_point_one_way() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        if name not in FREE
        for other in imported(path)
        if RANK[other] > RANK[name] or (other != name and name in NEVER and other.startswith(NEVER[name]))
    ]
    assert not wrong


def test_only_one_module_knows_ranks() -> None:
    knowing = [
        name for name, path in MODULES.items() if any(w in path.read_text() for w in ("torch.distributed as", "WORLD_SIZE"))
    ]
    assert knowing == ["ranks"]


def test_only_commands_and_the_run_log_print() -> None:
    def prints(path: Path) -> bool:
        calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        return any(isinstance(call, ast.Name) and call.id == "print" for call in calls)

    printing = {name for name, path in MODULES.items() if prints(path)}
    assert {name for name in printing if not name.startswith("commands.")} == {"cli", "demonstration", "runlog"}


def test_help_does_not_load_torch() -> None:
    code = "import sys; from datafree.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "distill" in done.stdout
    assert time.perf_counter() - began < 5  # half a second on a quiet machine; this catches a heavy import on a busy one
