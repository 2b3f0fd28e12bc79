"""Imports: one way between the rooms, and light where a command or a worker must start at once."""

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PYPROJECT["tool"]["setuptools"]["packages"]
CORE = sorted(f"al_engine.{path.stem}" for path in (ROOT / "al_engine").glob("[a-z]*.py"))
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
    contracts = len(PYPROJECT["tool"]["importlinter"]["contracts"])
    assert f"{contracts} kept, 0 broken" in done.stdout


def test_an_import_the_wrong_way_is_found(tmp_path):
    """The contract between the rooms, on two made-up rooms of which the core looks up."""
    for package, text in {"models": "", "al_engine": "import models\n"}.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(text)
    config = tmp_path / ".importlinter"
    config.write_text(
        "[importlinter]\nroot_packages =\n    models\n    al_engine\n"
        "[importlinter:contract:1]\nname = one way\ntype = layers\nlayers =\n    models\n    al_engine\n"
    )
    done = lint(config, tmp_path)
    assert done.returncode == 1
    assert "al_engine -> models" in done.stdout


def test_the_core_drags_in_nothing_heavy():
    assert "al_engine.ledger" in CORE
    loaded = loaded_by(*CORE)
    assert loaded & {*HEAVY, *PACKAGES} == {"al_engine"}
    assert {"h5py", "numpy", "pydantic"} <= loaded


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_themselves_are_light(package):
    assert loaded_by(package).isdisjoint(HEAVY)


def test_every_package_is_typed_and_every_module_explains_itself():
    for package in PACKAGES:
        assert find_spec(package) is not None
        assert (ROOT / package.split(".")[0] / "py.typed").is_file(), package  # speaks for sub-packages too
        for path in (ROOT / package).rglob("*.py"):
            assert path.read_text(encoding="utf-8").startswith('"""'), path
