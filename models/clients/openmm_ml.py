"""The force field as a potential of OpenMM-ML, for whole systems and for a part of a classical system.

    potential = MLPotential("al-engine", model="runs/ethanol")
    system = potential.createSystem(topology)
    mixed = potential.createMixedSystem(topology, classical, atoms)

OpenMM-ML finds the name by the entry point of `models.clients.openmm_ml_factory`.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from openmmml.mlpotential import MLPotentialImpl

from al_engine.errors import InputError
from models import load_committee
from models.clients.openmm import Watch, committee_force


class CommitteePotential(MLPotentialImpl):
    """A committee; the arguments of `MLPotential` are those of `load_committee`.

    Args:
        model: Campaign directory, or file of trained members.
        options: Further arguments of `load_committee`, such as `device` or `members`.

    Raises:
        InputError: If the committee does not exist, or a weight is damaged.
    """

    def __init__(self, model: str | Path, **options: Any) -> None:
        self._load = partial(load_committee, Path(model).resolve(), **options)
        self.calculator = self._load()

    def addForces(  # noqa: N802  # OpenMM-ML's name
        self,
        topology: Any,
        system: Any,
        atoms: Iterable[int] | None,
        forceGroup: int,
        *,
        watch: Watch | None = None,
        **_: Any,
    ) -> None:
        """Add the force to a system; OpenMM-ML calls this method.

        Args:
            topology: Topology of the system, from which the elements are taken.
            system: The system.
            atoms: Indices of the atoms that the force acts on; None: all.
            forceGroup: Group of the force.
            watch: As in `committee_force`; an argument of `createSystem` and `createMixedSystem`.

        Raises:
            InputError: If an atom has no element, or one that the members do not know.
        """
        everyone = list(topology.atoms())
        chosen = range(len(everyone)) if atoms is None else list(atoms)
        nameless = [k for k in chosen if everyone[k].element is None]
        if nameless:
            raise InputError(f"particle {nameless[0]} has no element in the topology; the force field is for atoms")
        force = committee_force(
            self.calculator,
            [everyone[k].element.atomic_number for k in chosen],
            periodic=topology.getPeriodicBoxVectors() is not None or system.usesPeriodicBoundaryConditions(),
            particles=[] if atoms is None else chosen,
            watch=watch,
            reload=self._load,
        )
        force.setForceGroup(forceGroup)
        system.addForce(force)

    def getMLLongRange(self) -> bool:  # noqa: N802
        """Whether the force field reaches beyond its cut-offs: it does not."""
        return False
