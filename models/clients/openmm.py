"""The force field in OpenMM, as a force that Python computes.

    system.addForce(committee_force(load_committee("runs/ethanol"), numbers))

OpenMM's integrators, barostats, metadynamics and path-integral MD work with it. With `particles` it acts on a part of
the system, beside a classical force field for the rest; `models.clients.openmm_ml` is the same for OpenMM-ML.
"""

import uuid
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from ase import units

from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray, Frame, IntArray
from models.graph.graph import AtomBatch
from models.inference.calculator import CommitteeCalculator
from models.inference.force_field import Evaluation

ANG_PER_NM = 10.0
KJ_PER_MOL_PER_EV = units.mol / units.kJ
Watch = Callable[[Evaluation], None]
"""A function that is called with every evaluation, such as one that notes the force deviation."""
Reload = Callable[[], CommitteeCalculator]
"""A function that loads a committee again, and that can be pickled."""


def committee_force(
    calculator: CommitteeCalculator,
    numbers: Sequence[int] | IntArray,
    *,
    periodic: bool = False,
    particles: Sequence[int] = (),
    watch: Watch | None = None,
    reload: Reload | None = None,
) -> Any:
    """An `openmm.PythonForce` of a committee.

    A copy of the force, within this process, shares the committee and `watch`.

    Args:
        calculator: The committee, from `load_committee`; its `members` drive the simulation.
        numbers: Atomic numbers, in the order of the particles.
        periodic: Whether all axes of the system are periodic.
        particles: Particles that the force acts on, `numbers` being theirs; empty: all.
        watch: Called with every evaluation.
        reload: Loads the committee where the system is read from XML by another process, such as
            `functools.partial(load_committee, "/data/runs/ethanol")`; `watch` is not called there. None: such XML
            cannot be read.

    Raises:
        InputError: If the members do not know an element, or `particles` and `numbers` differ in length.
    """
    import openmm

    numbers = np.asarray(numbers)
    if len(particles) not in {0, len(numbers)}:
        raise InputError(f"{len(particles)} particles with {len(numbers)} atomic numbers; give one for each")
    AtomBatch.of([Frame(numbers, np.zeros((len(numbers), 3)))], calculator.committee.elements)  # checks the elements
    force = openmm.PythonForce(_Computation(calculator, numbers, watch, reload, periodic=periodic))
    force.setUsesPeriodicBoundaryConditions(periodic)
    if len(particles):
        force.setParticles(particles)
    return force


class _Computation:
    """Energy in kJ/mol and forces in kJ/mol/nm of a state, as OpenMM asks for them.

    OpenMM copies a force by pickling its function. What is pickled is a name, by which this process finds the function.
    """

    def __init__(
        self,
        calculator: CommitteeCalculator,
        numbers: IntArray,
        watch: Watch | None,
        reload: Reload | None,
        *,
        periodic: bool,
    ) -> None:
        self._force_field, self._numbers, self._watch = calculator.force_field, numbers, watch
        self._reload, self._periodic = reload, periodic
        self._name = uuid.uuid4().hex
        _COMPUTATIONS[self._name] = self

    def __reduce__(self) -> tuple[Any, ...]:
        return _computation, (self._name, self._reload, self._numbers, self._periodic)

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


_COMPUTATIONS: WeakValueDictionary[str, _Computation] = WeakValueDictionary()
"""The functions of all forces of this process, by name."""


def _computation(name: str, reload: Reload | None, numbers: IntArray, periodic: bool) -> _Computation:  # noqa: FBT001
    """The function of this process with a name, or one with the committee loaded again.

    Raises:
        InputError: If another process made the function, and did not say how to load the committee.
    """
    found = _COMPUTATIONS.get(name)
    if found is not None:
        return found
    if reload is None:
        raise InputError("another process made this force, without `reload`; add it here by `committee_force`")
    return _Computation(reload(), numbers, None, reload, periodic=periodic)
