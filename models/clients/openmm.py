"""The force field in OpenMM, as a force that Python computes.

    system.addForce(committee_force(load_committee("runs/ethanol"), numbers))

OpenMM's integrators, barostats, metadynamics and path-integral MD work with it. With `particles` it acts on a part of
the system, beside a classical force field for the rest.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import units

from al_engine.structures.frames import FloatArray, Frame, IntArray
from models.inference.calculator import CommitteeCalculator
from models.inference.force_field import Evaluation

ANG_PER_NM = 10.0
KJ_PER_MOL_PER_EV = units.mol / units.kJ
Watch = Callable[[Evaluation], None]
"""A function that is called with every evaluation, such as one that notes the force deviation."""


def committee_force(
    calculator: CommitteeCalculator,
    numbers: Sequence[int] | IntArray,
    *,
    periodic: bool = False,
    particles: Sequence[int] = (),
    watch: Watch | None = None,
) -> Any:
    """An `openmm.PythonForce` of a committee.

    Args:
        calculator: The committee, from `load_committee`; its `members` drive the simulation.
        numbers: Atomic numbers, in the order of the particles.
        periodic: Whether all axes of the system are periodic.
        particles: Particles that the force acts on, `numbers` being theirs; empty: all.
        watch: Called with every evaluation.
    """
    import openmm

    force = openmm.PythonForce(_Computation(calculator, np.asarray(numbers), watch, periodic=periodic))
    force.setUsesPeriodicBoundaryConditions(periodic)
    if len(particles):
        force.setParticles(particles)
    return force


class _Computation:
    """Energy in kJ/mol and forces in kJ/mol/nm of a state, as OpenMM asks for them."""

    def __init__(
        self, calculator: CommitteeCalculator, numbers: IntArray, watch: Watch | None, *, periodic: bool
    ) -> None:
        self._force_field, self._numbers, self._watch, self._periodic = (
            calculator.force_field,
            numbers,
            watch,
            periodic,
        )

    def __call__(self, state: Any) -> tuple[float, FloatArray]:
        nanometres = state.getPositions(asNumpy=True)._value  # noqa: SLF001  # without units, which are slow
        box = state.getPeriodicBoxVectors(asNumpy=True)._value if self._periodic else np.zeros((3, 3))  # noqa: SLF001
        frame = Frame(
            numbers=self._numbers,
            positions=ANG_PER_NM * np.asarray(nanometres),
            cell=ANG_PER_NM * np.asarray(box),
            pbc=np.full(3, self._periodic),
        )
        found = self._force_field.evaluate(frame)
        if self._watch is not None:
            self._watch(found)
        return KJ_PER_MOL_PER_EV * found.energy, KJ_PER_MOL_PER_EV * ANG_PER_NM * found.forces
