"""The force field as a driver of i-PI, with the committee's energies and forces for i-PI's own use.

In the input of i-PI:

    <ffdirect name='al'>
      <pes> custom </pes>
      <pes_path> PATH </pes_path>
      <parameters> {template: start.xyz, model: runs/ethanol} </parameters>
    </ffdirect>

`python -m models.clients.ipi` prints PATH. As a process of its own, for `ffsocket`:

    i-pi-driver-py -m custom -P PATH -o template=start.xyz,model=runs/ethanol -u -a ADDRESS

Further parameters are `stride`, `device` and `iteration` (`CommitteeDriver`).

The extras are JSON: `max_force_deviation` (eV/Å), and `committee_pot`, `committee_force` and `committee_virial` as
`ffcommittee` reads them (atomic units). With a stride the extras are `max_force_deviation` alone, NaN between the
evaluations of the whole committee: i-PI wants the same extras of every structure.
"""

import json
from typing import Any

import numpy as np
from ase import units
from ase.io import read
from ipi.pes.dummy import Dummy_driver

from al_engine.structures.frames import FloatArray, Frame
from models import load_committee

__DRIVER_NAME__ = "custom"
__DRIVER_CLASS__ = "CommitteeDriver"


class CommitteeDriver(Dummy_driver):
    """Energies, forces and virials of structures in atomic units.

    Args:
        template: File with the structure, in a format that ASE reads: elements, order of atoms, periodicity.
        model: Campaign directory.
        stride: Structures from one evaluation of the whole committee to the next; above 1 member 0 drives.
        device: `cpu`, `cuda`, or `auto`: the GPU if torch finds a GPU, otherwise the CPU.
        iteration: Number of the iteration; None: the latest iteration whose training is complete.

    Raises:
        InputError: If the committee or the GPU does not exist, or a weight is damaged.
    """

    def __init__(
        self,
        template: str,
        model: str,
        stride: str | int = "1",
        *args: Any,
        device: str = "auto",
        iteration: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        self.template, self.model, self.stride, self.device = template, model, int(stride), device
        self.iteration = None if iteration is None else int(iteration)
        super().__init__(*args, **kwargs)

    def check_parameters(self) -> None:
        """Read the template and the committee; i-PI calls this method once."""
        atoms = read(self.template)
        self.numbers, self.pbc = atoms.numbers, atoms.pbc
        members = [0] if self.stride > 1 else None
        calculator = load_committee(
            self.model, device=self.device, iteration=self.iteration, members=members, stride=self.stride
        )
        self.force_field = calculator.force_field

    def compute_structure(self, cell: FloatArray, pos: FloatArray) -> tuple[float, FloatArray, FloatArray, str]:
        """Energy (Hartree), forces (Hartree/Bohr), virial (Hartree) and extras.

        Args:
            cell: Cell vectors as columns, Bohr.
            pos: Positions in Bohr, shape (N, 3).
        """
        frame = Frame(
            numbers=self.numbers,
            positions=pos.reshape(-1, 3) * units.Bohr,
            cell=cell.T * units.Bohr if self.pbc.any() else np.zeros((3, 3)),
            pbc=self.pbc,
        )
        found = self.force_field.evaluate(frame)
        virial = np.zeros((3, 3)) if found.virial is None else found.virial / units.Hartree
        deviation = found.deviation
        extras: dict[str, Any] = {"max_force_deviation": np.nan if deviation is None else float(deviation.max())}
        if self.stride == 1 and found.member_energies is not None and found.member_forces is not None:
            n_members = len(found.member_energies)
            extras |= {
                "committee_pot": (found.member_energies / units.Hartree).tolist(),
                "committee_force": (found.member_forces.reshape(n_members, -1) * units.Bohr / units.Hartree).tolist(),
                # i-PI wants one virial for each member; the members' own are not evaluated
                "committee_virial": [virial.flatten().tolist()] * n_members,
            }
        forces = found.forces * units.Bohr / units.Hartree
        return found.energy / units.Hartree, forces.reshape(pos.shape), virial, json.dumps(extras)


if __name__ == "__main__":
    print(__file__)  # noqa: T201  # the answer of the command
