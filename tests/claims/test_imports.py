"""Imports point one way between the rooms of the house, and in no circle; one module prints, one knows of processes."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "datafree"
# What each room may import beside itself: what stands below it.
BELOW = {
    "core": "",
    "data": "core",
    "networks": "core",
    "engine": "core data networks",
    "methods": "core data networks engine",
    "recipes": "core data networks engine methods",
    "reports": "core data networks engine estimation",
    "deploy": "core data networks engine methods",
    "estimation": "core data networks engine methods",
    "api": "core data networks engine methods recipes reports deploy estimation",
    "cli": "core engine recipes reports api",
}
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def imported(module: str) -> set[str]:
    """Modules that `module` imports anywhere, type checking included."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("datafree"):
            base = node.module.removeprefix("datafree").removeprefix(".")
            names = {f"{base}.{alias.name}".removeprefix(".") for alias in node.names}
            found |= {name for name in names if name in MODULES} or {base}
    return found - {module, "", "__init__"}


ROOMS = [module for module in MODULES if module != "__init__"]


def test_the_house_has_these_rooms() -> None:
    assert {module.partition(".")[0] for module in ROOMS} == set(BELOW)


def test_no_room_imports_from_above() -> None:
    wrong = [
        f"{module} imports {other}"
        for module in ROOMS
        for other in imported(module)
        if other.partition(".")[0] not in {module.partition(".")[0], *BELOW[module.partition(".")[0]].split()}
    ]
    assert not wrong


def test_no_circle() -> None:
    assert list(TopologicalSorter({module: imported(module) for module in ROOMS}).static_order())


def test_methods_see_no_labelled_data() -> None:
    assert not [module for module in ROOMS if module.startswith("methods") and "data.labelled" in imported(module)]


def test_only_one_module_knows_of_processes() -> None:
    words = ("torch.distributed as", "WORLD_SIZE")
    assert [m for m in ROOMS if any(word in MODULES[m].read_text(encoding="utf-8") for word in words)] == ["core.distributed"]


def test_only_one_module_prints() -> None:
    def prints(module: str) -> bool:
        nodes = [
            node for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ]
        return any(ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write") for node in nodes)

    assert {module for module in ROOMS if prints(module)} == {"core.terminal"}


def test_help_does_not_load_torch() -> None:
    code = "import sys; from datafree.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "distill" in done.stdout
