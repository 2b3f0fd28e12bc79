"""Imports: one way between the rooms, and light where a command or a worker must start at once."""

import itertools
import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = PYPROJECT["tool"]["importlinter"]["contracts"]
ROOTS = PYPROJECT["tool"]["importlinter"]["root_packages"]


def packages_of(root):
    """A root package and all packages inside it."""
    folders = sorted(path.parent for path in (ROOT / root).rglob("__init__.py"))
    return [".".join(folder.relative_to(ROOT).parts) for folder in folders]


PACKAGES = [package for root in ROOTS for package in packages_of(root)]
CORE = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "al_engine").rglob("[a-z]*.py")
)
HEAVY = ("torch", "e3nn", "prefect", "rdkit", "openmm", "ase", "xtb", "tblite", "matplotlib")

LINT = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command(sys.argv[1:])"
LOADED = "import sys; [__import__(name) for name in sys.argv[1:]]; print(*sys.modules, sep='\\n')"


def loaded_by(*modules: str) -> set[str]:
    """Top-level packages in a fresh interpreter after these imports."""
    command = [sys.executable, "-c", LOADED, *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


def lint(config: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, "--config", str(config), "--no-cache"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)


def test_rooms_import_one_way():
    done = lint(ROOT / "pyproject.toml", ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in done.stdout


def floors_of(contract):
    """The rooms of each floor, from top to bottom, as packages."""
    (container,) = contract.get("containers", [""])
    prefix = f"{container}." if container else ""
    return [[f"{prefix}{room.strip()}" for room in floor.split("|")] for floor in contract["layers"]]


FLOORS = {contract["name"]: contract for contract in CONTRACTS if contract["type"] == "layers"}


@pytest.mark.parametrize("name", FLOORS)
def test_a_planted_import_the_wrong_way_is_found(name, tmp_path):
    """From every room to one on the floor above it, in packages of the same names that hold nothing else."""
    floors = floors_of(FLOORS[name])
    planted = [(room, above[0]) for above, floor in itertools.pairwise(floors) for room in floor]
    tops = {room.split(".")[0] for floor in floors for room in floor}
    for room in {*itertools.chain(*floors), *tops}:
        folder = tmp_path / room.replace(".", "/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
    for room, above in planted:
        (tmp_path / room.replace(".", "/") / "planted.py").write_text(f"import {above}\n")
    contract = {
        key: value for key, value in FLOORS[name].items() if key != "ignore_imports"
    }  # of modules that are not here
    lines = [f"{key} = {json.dumps(value)}" for key, value in contract.items()]
    config = tmp_path / "planted.toml"
    config.write_text(
        "\n".join(
            [
                "[tool.importlinter]",
                f"root_packages = {json.dumps(sorted(tops))}",
                "[[tool.importlinter.contracts]]",
                *lines,
            ]
        )
    )
    done = lint(config, tmp_path)
    assert done.returncode == 1
    assert [(room, above) for room, above in planted if f"{room}.planted -> {above}" not in done.stdout] == []


def test_the_core_drags_in_nothing_heavy():
    assert "al_engine.campaign.ledger" in CORE
    loaded = loaded_by(*CORE)
    assert loaded & {*HEAVY, *ROOTS} == {"al_engine"}
    assert {"h5py", "numpy", "pydantic"} <= loaded


def test_packages_themselves_are_light():
    assert loaded_by(*PACKAGES) & {*HEAVY} == set()


def test_every_package_is_typed_and_every_module_explains_itself():
    for package in PACKAGES:
        assert find_spec(package) is not None
        assert (ROOT / package.split(".")[0] / "py.typed").is_file(), package  # speaks for sub-packages too
        for path in (ROOT / package).rglob("*.py"):
            assert path.read_text(encoding="utf-8").startswith('"""'), path
