"""The environments of the packages that this project is compared with.

The packages cannot share an environment: mace-torch pins e3nn 0.4.4, this project and NequIP need 0.6. Each package has
a virtual environment under `benchmarks/.peers`, with the versions that `benchmarks/peers/<name>.txt` pins. Running this
file sets up all environments; an environment that is complete and up to date is kept.

    python benchmarks/peers.py
    python benchmarks/peers.py --torch-index https://download.pytorch.org/whl/cu130
"""

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from al_engine.errors import AlEngineError, InputError

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE / ".peers"
PACKAGES = {"mace": "mace-torch", "nequip": "nequip"}
CPU_TORCH = "https://download.pytorch.org/whl/cpu"


class SetupError(AlEngineError):
    """A peer's environment could not be set up."""


def python_of(name: str, given: Sequence[str] = ()) -> Path:
    """The interpreter of a peer's environment.

    Args:
        name: `mace` or `nequip`.
        given: Pairs `name=path` of the command line, which take precedence over `benchmarks/.peers`.

    Raises:
        InputError: If the interpreter does not exist, or a pair has another form.
    """
    chosen = {}
    for pair in given:
        key, equals, path = pair.partition("=")
        if not equals or key not in PACKAGES:
            raise InputError(f"--peer-python {pair}: give {' or '.join(f'{peer}=PATH' for peer in PACKAGES)}")
        chosen[key] = Path(path)
    python = chosen.get(name, ENVIRONMENTS / name / "bin" / "python")
    if not python.is_file():
        raise InputError(f"{python} does not exist; run `python {Path(sys.argv[0]).parent}/peers.py` to set it up")
    return python


def set_up(name: str, *, torch_index: str) -> Path:
    """Set up an environment, unless it exists with the pinned versions; returns its interpreter.

    Raises:
        SetupError: If a package cannot be installed.
    """
    pins = HERE / "peers" / f"{name}.txt"
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = f"{hashlib.sha256(pins.read_bytes()).hexdigest()} {torch_index}\n"
    if python.is_file() and stamp.is_file() and stamp.read_text(encoding="ascii") == wanted:
        return python
    print(f"installing {PACKAGES[name]} into {folder} (a minute or two)", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(pins)]
    # torch first, without its dependencies for GPUs, from the given index if that answers
    _run([*pip, "--no-deps", "--retries", "0", "--timeout", "20", "--extra-index-url", torch_index, "torch"], name)
    _run([*pip, PACKAGES[name]], name)
    stamp.write_text(wanted, encoding="ascii")
    return python


def _run(command: Sequence[str], name: str) -> None:
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603  # pip of an environment of our own
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"{PACKAGES[name]} cannot be installed: {error}; see pip's message above") from error


def main() -> None:
    """Set up all environments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--torch-index", default=os.environ.get("TORCH_INDEX", CPU_TORCH), help="package index of torch"
    )
    options = parser.parse_args()
    try:
        for name in PACKAGES:
            print(set_up(name, torch_index=options.torch_index))
    except AlEngineError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
