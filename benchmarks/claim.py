"""Whether what a converged campaign claims of its force field is true in molecular dynamics by the reference method.

    python benchmarks/claim.py runs/ethanol --json

The frames come from Langevin dynamics by ASE with the GFN2-xTB calculator of tblite, not from the committee. The
committee's forces are compared with the forces of the reference method on these frames: how many frames the committee
calls accurate, and how many of the accurate frames have an error on the worst atom within the bound that the audit
states. Only for clusters that are labelled whole.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

from al_engine import load_committee
from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.scores import read_test
from al_engine.child_process import SINGLE_THREADED
from al_engine.committee.deviation import force_deviation
from al_engine.structures.frames import FloatArray
from al_engine.units import MEV_PER_EV
from machine import circumstances, versions

if TYPE_CHECKING:
    from ase import Atoms

TRAJECTORIES = 2
"""Trajectories at each temperature, one for each core of a small machine."""
SETTLING_FRAMES = 20
"""Frames at the beginning of a trajectory that are left out."""
STEPS_PER_FRAME = 100


class Wall:
    """The campaign's spherical wall as a constraint of ASE: F = -k (r - R) outside of the radius R.

    Args:
        radius_ang: Radius R, Å.
        force_constant: k in eV/Å².
    """

    def __init__(self, radius_ang: float, force_constant: float) -> None:
        self.radius_ang, self.force_constant = radius_ang, force_constant

    def adjust_forces(self, atoms: "Atoms", forces: FloatArray) -> None:
        """Add the forces of the wall, in place; called by ASE."""
        outward = atoms.positions - atoms.get_center_of_mass()
        distance = np.linalg.norm(outward, axis=1, keepdims=True)
        excess = np.maximum(distance - self.radius_ang, 0.0)
        forces -= self.force_constant * excess * outward / np.maximum(distance, 1e-9)

    def adjust_positions(self, atoms: "Atoms", new: FloatArray) -> None:
        """Leave the positions as they are; called by ASE."""

    def get_removed_dof(self, atoms: "Atoms") -> int:
        """Number of degrees of freedom that the wall removes; called by ASE."""
        del atoms
        return 0


def reference_md(
    kelvin_and_number: tuple[float, int], *, directory: Path, frames: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """One trajectory by the reference method.

    Args:
        kelvin_and_number: Temperature of the thermostat, K, and number of the trajectory, which chooses the starting
            frame in the campaign's test set and the random numbers.
        directory: The campaign directory.
        frames: Number of frames.

    Returns:
        Positions in Å and forces in eV/Å, each of shape (frames, N, 3), and kinetic temperatures in K, shape (frames,).
    """
    from tblite.ase import TBLite

    kelvin, number = kelvin_and_number
    ledger = Ledger.open(directory)
    sampling = ledger.config.sampling
    test = read_test(ledger.reader(), ledger.config).frames
    start = test[number % len(test)].frame
    atoms = start.to_atoms()
    multiplicity = start.unpaired_electrons + 1
    atoms.calc = TBLite(method="GFN2-xTB", charge=start.charge, multiplicity=multiplicity, verbosity=0)
    with ledger.reader().open(names.sample(0, sampling.temperatures_kelvin[0])) as root:
        atoms.set_constraint(Wall(float(root.attrs["wall_radius_ang"]), sampling.wall_ev_per_ang2))
    rng = np.random.default_rng([number, round(kelvin)])
    MaxwellBoltzmannDistribution(atoms, temperature_K=kelvin, rng=rng)
    Stationary(atoms)
    friction = sampling.friction_per_ps / (1000 * units.fs)
    timestep = sampling.timestep_fs * units.fs
    # with ASE's default `fixcm=True`, the atoms of a small molecule are hotter than the thermostat by half
    dynamics = Langevin(atoms, timestep, temperature_K=kelvin, friction=friction, rng=rng, fixcm=False)
    positions, forces, temperatures = [], [], []
    for _ in range(SETTLING_FRAMES + frames):
        dynamics.run(STEPS_PER_FRAME)
        positions.append(atoms.positions.copy())
        forces.append(atoms.get_forces(apply_constraint=False))
        temperatures.append(2.0 * atoms.get_kinetic_energy() / (3 * len(atoms) * units.kB))
    kept = slice(SETTLING_FRAMES, None)
    return np.array(positions[kept]), np.array(forces[kept]), np.array(temperatures[kept])


def compared(directory: Path, positions: FloatArray, forces: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The committee's deviation on each frame, and its error on the worst atom, meV/Å, each of shape (frames,)."""
    ledger = Ledger.open(directory)
    committee = load_committee(directory, device="cpu").committee
    frame = read_test(ledger.reader(), ledger.config).frames[0].frame
    _, predicted = committee.predict([frame.with_positions(p) for p in positions], batch_size=20)
    members = np.array(predicted)  # (frames, M, N, 3)
    mean = members.mean(axis=1)
    kind = ledger.config.selection.deviation
    spread = np.array([getattr(force_deviation(forces_of), kind).max() for forces_of in members])
    error = np.linalg.norm(mean - forces, axis=-1).max(axis=-1)
    return MEV_PER_EV * spread, MEV_PER_EV * error


def summary(deviation: FloatArray, error: FloatArray, *, lower: float, bound: float) -> dict[str, Any]:
    """How the claim holds on some frames.

    Args:
        deviation: Deviation of each frame, meV/Å, shape (F,).
        error: Error of each frame on the worst atom, meV/Å, shape (F,).
        lower: Lower end of the window, meV/Å.
        bound: Error that 95 % of the accurate frames do not exceed, as the audit states, meV/Å.
    """
    accurate = error[deviation < lower]
    if not len(accurate):
        raise SystemExit("the committee calls no frame accurate")
    within = float(np.mean(accurate <= bound))
    return {
        "frames": len(error),
        "accurate": len(accurate),
        "within_bound": within,
        "error_quantile_95_mev_per_ang": float(np.quantile(accurate, 0.95)),
        "largest_error_mev_per_ang": float(accurate.max()),
        "bad": int(np.sum(accurate > lower)),
    }


def check_claim(directory: Path, *, kelvins: list[float], frames: int, jobs: int) -> dict[str, Any]:
    """Run the MD at each temperature, and compare.

    Args:
        directory: The campaign directory; its last iteration must have an audit.
        kelvins: Temperatures, K.
        frames: Number of frames at each temperature.
        jobs: Number of trajectories that run side by side.
    """
    ledger = Ledger.open(directory)
    system = ledger.config.system
    if system is None or system.shape == "box":
        raise SystemExit(f"{directory}: only campaigns of one cluster that is labelled whole are supported")
    audit = ledger.history()[-1].audit
    if audit is None or audit.overall.bound_mev_per_ang is None:
        raise SystemExit(f"{directory}: the last iteration has no audit that states a bound")
    lower, bound = audit.lower_mev_per_ang, audit.overall.bound_mev_per_ang
    tasks = [(kelvin, number) for kelvin in kelvins for number in range(TRAJECTORIES)]
    run = partial(reference_md, directory=directory, frames=frames // TRAJECTORIES)
    with ProcessPoolExecutor(jobs, initializer=os.environ.update, initargs=(SINGLE_THREADED,)) as pool:
        found = list(pool.map(run, tasks))
    rows, all_deviations, all_errors = [], [], []
    for kelvin in kelvins:
        here = [result for task, result in zip(tasks, found, strict=True) if task[0] == kelvin]
        positions, forces, temperatures = (np.concatenate(arrays) for arrays in zip(*here, strict=True))
        deviation, error = compared(directory, positions, forces)
        measured = {"kelvin": kelvin, "mean_kinetic_kelvin": float(temperatures.mean())}
        rows.append({**measured, **summary(deviation, error, lower=lower, bound=bound)})
        all_deviations.append(deviation)
        all_errors.append(error)
    overall = summary(np.concatenate(all_deviations), np.concatenate(all_errors), lower=lower, bound=bound)
    return {
        "campaign": directory.name,
        "claim": audit.claim(),
        "bound_mev_per_ang": bound,
        "temperatures": rows,
        "overall": overall,
        "about": {**circumstances(), "versions": versions(("al-engine", "torch", "ase", "tblite", "numpy"))},
    }


def main() -> None:
    """Run the MD, compare, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("directory", type=Path, help="directory of a converged campaign")
    parser.add_argument("--kelvin", type=float, nargs="+", default=[300.0, 900.0], help="temperatures, K")
    parser.add_argument("--frames", type=int, default=250, help="frames at each temperature")
    parser.add_argument("--jobs", type=int, default=2, help="trajectories that run side by side")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    result = check_claim(options.directory, kelvins=options.kelvin, frames=options.frames, jobs=options.jobs)
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(result["claim"])
    for row in [*result["temperatures"], {"kelvin": "all", **result["overall"]}]:
        print(
            f"{row['kelvin']} K: {row['accurate']} of {row['frames']} frames accurate; "
            f"{row['within_bound']:.1%} of them within the bound; 95 % within "
            f"{row['error_quantile_95_mev_per_ang']:.0f} meV/Å, largest {row['largest_error_mev_per_ang']:.0f} meV/Å; "
            f"{row['bad']} above the lower end of the window"
        )


if __name__ == "__main__":
    main()
