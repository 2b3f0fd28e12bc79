"""Constant pressure by Monte Carlo moves of the volume, between steps of molecular dynamics.

The barostat of Chow & Ferguson (Comput. Phys. Commun. 91, 283 (1995)) and Åqvist et al. (Chem. Phys. Lett. 384, 288
(2004)), as in OpenMM's MonteCarloBarostat: a change of the volume is drawn, all cell vectors are scaled by the same
factor, molecules are moved rigidly with their centres of mass, and the move is accepted with probability
min(1, exp(-w / kT)), where

    w = U' - U + P (V' - V) - N kT ln(V' / V)

for N molecules (bonded fragments). The move needs energies but no virial, so that any model can be used. Velocities do
not change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from al_engine.structures.frames import FloatArray, Frame, IntArray
from al_engine.units import BOLTZMANN_EV_PER_KELVIN

BAR_IN_EV_PER_ANG3 = 1e-6 / 1.6021766208
"""1 bar in eV/Å³ (CODATA 2014)."""
INTERVAL_STEPS = 25
"""MD steps between two moves, OpenMM's default. A move costs an additional evaluation."""
_FIRST_CHANGE = 0.01
"""Initial value of the largest proposed change of the volume, as a share of the volume."""
_LARGEST_CHANGE = 0.3
"""Upper limit of the largest proposed change of the volume, as a share of the initial volume."""
_ACCEPTED_SHARE = 0.5
"""Share of accepted moves that the adaptation aims at."""
_SLOWING = 0.6
"""The k-th move changes the logarithm of the step by at most k to minus this power."""


@dataclass(frozen=True, slots=True, eq=False)
class Barostat:
    """Pressure and limits of the volume, the same for all boxes of a run.

    Attributes:
        pressure_bar: The pressure, bar.
        fragment_of_atom: Bonded fragment of each atom of a box, counted from 0 without gaps, shape (n,).
        interval_steps: MD steps between two moves.
        smallest_ang3: Smallest volume that is accepted, Å³.
        largest_ang3: Largest volume that is accepted, Å³; it keeps a liquid above its boiling point dense.
    """

    pressure_bar: float
    fragment_of_atom: IntArray
    interval_steps: int = INTERVAL_STEPS
    smallest_ang3: float = 0.0
    largest_ang3: float = np.inf

    def allows(self, volume_ang3: float) -> bool:
        """Whether a volume is within the limits."""
        return volume_ang3 > 0.0 and self.smallest_ang3 <= volume_ang3 <= self.largest_ang3


def volume(frame: Frame) -> float:
    """Volume of a frame's cell, Å³."""
    return float(abs(np.linalg.det(frame.cell)))


def scaled(frame: Frame, factor: float, *, masses: FloatArray, fragment_of_atom: IntArray) -> Frame:
    """Scale the cell vectors of a frame and move its molecules rigidly with their centres of mass.

    The centre of mass of all atoms does not move.

    Args:
        frame: A frame whose molecules are whole.
        factor: Factor on all cell vectors.
        masses: Masses in amu, shape (N,).
        fragment_of_atom: Bonded fragment of each atom, counted from 0 without gaps, shape (N,).
    """
    of_molecules = np.bincount(fragment_of_atom, weights=masses)[:, None]
    weighted = masses[:, None] * frame.positions
    centres = np.stack([np.bincount(fragment_of_atom, weights=axis) for axis in weighted.T], axis=1) / of_molecules
    from_middle = centres - weighted.sum(axis=0) / masses.sum()
    positions = frame.positions + ((factor - 1.0) * from_middle)[fragment_of_atom]
    return replace(frame, positions=positions, cell=factor * frame.cell)


class VolumeMoves:
    """The volume moves of a single trajectory, with their random numbers and their adaptive step.

    The step is the largest change of the volume that is proposed. Ever smaller corrections (Robbins & Monro, Ann. Math.
    Stat. 22, 400 (1951)) bring the probability of acceptance towards one half. A chain whose adaptation diminishes has
    the right averages (Roberts & Rosenthal, J. Appl. Probab. 44, 458 (2007)). The step depends only on the moves of
    the trajectory, which makes it reproducible.

    Args:
        barostat: Pressure and limits.
        start: Structure from which the trajectory starts.
        target_kelvin: Temperature of the trajectory's thermostat, K.
        masses: Masses in amu, shape (n,).
        seed: Seed of the random numbers.

    Attributes:
        step_ang3: Largest change of the volume that is proposed, Å³.
        attempts: Number of moves so far.
    """

    def __init__(
        self,
        barostat: Barostat,
        start: Frame,
        *,
        target_kelvin: float,
        masses: FloatArray,
        seed: int | Sequence[int],
    ) -> None:
        self._barostat, self._masses = barostat, masses
        self._kt = BOLTZMANN_EV_PER_KELVIN * target_kelvin
        self._molecules = int(barostat.fragment_of_atom.max()) + 1
        self._rng = np.random.default_rng(seed)
        self._largest_step = _LARGEST_CHANGE * volume(start)
        self.step_ang3 = _FIRST_CHANGE * volume(start)
        self.attempts = 0

    def propose(self, frame: Frame) -> Frame | None:
        """Draw a volume and scale the frame to it.

        Returns:
            The scaled frame; None if the volume is not allowed, which counts as a rejected move.
        """
        before = volume(frame)
        after = before + self.step_ang3 * self._rng.uniform(-1.0, 1.0)
        if not self._barostat.allows(after):
            self._adapt(0.0)
            return None
        factor = (after / before) ** (1.0 / 3.0)
        return scaled(frame, factor, masses=self._masses, fragment_of_atom=self._barostat.fragment_of_atom)

    def accept(self, before: Frame, after: Frame, *, energy_change: float) -> bool:
        """Decide whether a proposed frame is accepted, and adapt the step.

        Args:
            before: The present frame.
            after: The proposed frame.
            energy_change: Potential energy of `after` minus potential energy of `before`, eV; NaN is never accepted.
        """
        old, new = volume(before), volume(after)
        work = energy_change + self._barostat.pressure_bar * BAR_IN_EV_PER_ANG3 * (new - old)
        exponent = self._molecules * np.log(new / old) - work / self._kt
        probability = 0.0 if np.isnan(exponent) else float(np.exp(min(0.0, exponent)))
        self._adapt(probability)
        return bool(self._rng.random() < probability)

    def _adapt(self, probability: float) -> None:
        """Count a move and correct the step by the probability with which the move was accepted."""
        self.attempts += 1
        correction = (probability - _ACCEPTED_SHARE) * self.attempts**-_SLOWING
        self.step_ang3 = min(self.step_ang3 * float(np.exp(correction)), self._largest_step)
