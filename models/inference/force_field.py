"""A committee as the force field of a simulation: one structure after another, with the disagreement of the members.

The ASE calculator and the clients of other simulation programs evaluate structures by it. Some members drive the
simulation; on a stride the whole committee is evaluated, which gives the force deviation.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from al_engine.campaign.card import Card
from al_engine.committee.deviation import force_deviation
from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray, Frame
from al_engine.units import MEV_PER_EV
from models.inference.chunked import evaluate_chunked, largest_whole_frame
from models.inference.committee import BoundCommittee, Committee
from models.ms_mace import Prediction

SINGLE_THREAD_ATOMS = 300
"""Number of atoms below which a single thread evaluates a structure on a CPU. On small tensors the threads of torch
wait for each other, beside other programs ten times longer than the evaluation takes."""


class ForceFieldWarning(UserWarning):
    """A structure is outside of what the force field was trained for."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Energy and forces of a structure.

    Attributes:
        energy: Mean energy of the driving members, eV.
        forces: Their mean forces, eV/Å, shape (N, 3).
        stress: Their mean stress, eV/Å³, ASE's sign, shape (3, 3); None unless all axes are periodic.
        virial: Their mean virial, -dE/d(strain), eV, shape (3, 3); None unless an axis is periodic.
        member_energies: Energies of all M members, eV, shape (M,); None if only the driving members were evaluated.
        member_forces: Forces of all members, eV/Å, shape (M, N, 3); None likewise.
    """

    energy: float
    forces: FloatArray
    stress: FloatArray | None
    virial: FloatArray | None = None
    member_energies: FloatArray | None = None
    member_forces: FloatArray | None = None

    @property
    def deviation(self) -> FloatArray | None:
        """Force deviation of each atom, kind `norm`, eV/Å, shape (N,); None if only the drivers were evaluated."""
        return None if self.member_forces is None else force_deviation(self.member_forces).norm


class ForceField:
    """A committee that evaluates one structure after another."""

    def __init__(
        self,
        committee: Committee,
        *,
        members: Sequence[int] | None = None,
        stride: int = 1,
        card: Card | None = None,
    ) -> None:
        """A force field.

        Args:
            committee: The committee.
            members: The driving members, whose mean gives energies and forces; None: all.
            stride: Number of evaluations from one evaluation of the whole committee to the next.
            card: What the campaign says of the committee; warnings come from it. None: no warnings.

        Raises:
            InputError: If a member does not exist, the stride is not positive, or there is a stride and all members
                drive: then the whole committee is evaluated anyway.
        """
        everyone = list(range(committee.n_members))
        self.committee, self.card = committee, card
        self.members = everyone if members is None else sorted(set(members))
        self.stride = stride
        if not self.members or not set(self.members) <= set(everyone):
            raise InputError(f"members: {list(members or [])} of a committee with the members {everyone}")
        if stride < 1:
            raise InputError(f"stride: {stride} is not positive")
        if stride > 1 and len(self.members) == len(everyone) > 1:
            raise InputError(f"stride: {stride}, but all members drive; give those that shall, such as members 0")
        self._calls = 0
        self._bound: tuple[Frame, BoundCommittee] | None = None  # the committee, bound to the elements of a frame
        self._warned: set[str] = set()

    def evaluate(self, frame: Frame, *, whole: bool = False, stated: bool = False) -> Evaluation:
        """Evaluate a structure of any size; large structures are evaluated in bounded memory.

        Args:
            frame: The structure.
            whole: Whether to evaluate the whole committee, whatever the stride.
            stated: Whether charge and spin of the structure are known. If the program has no such notion, they are not,
                and are not compared with those of the training set.

        Raises:
            InputError: If the structure has an element that the members do not know, or a position is not finite.
        """
        finite = np.isfinite(frame.positions).all(axis=1)
        if not finite.all():
            raise InputError(f"atom {int(np.argmin(finite))} has a position that is not finite; check what set it")
        everyone = range(self.committee.n_members)
        whole = whole or self._calls % self.stride == 0 or len(self.members) == len(everyone)
        self._calls += 1
        with _threads_for(len(frame), self.committee.device):
            found = {k: self._predict(frame, k) for k in (everyone if whole else self.members)}
        drivers = [found[k] for k in self.members]
        result = Evaluation(
            energy=float(np.mean([float(each.energies) for each in drivers])),
            forces=np.mean([each.forces.cpu().numpy() for each in drivers], axis=0),
            stress=_mean([each.stresses[0] for each in drivers]) if frame.pbc.all() else None,
            virial=-_mean([each.virials[0] for each in drivers]) if frame.pbc.any() else None,
            member_energies=np.array([float(found[k].energies) for k in everyone]) if whole else None,
            member_forces=np.stack([found[k].forces.cpu().numpy() for k in everyone]) if whole else None,
        )
        self._warn(frame, result, stated=stated)
        return result

    def _predict(self, frame: Frame, member: int) -> Prediction:
        """Prediction of a member, domain by domain if the frame is too large for memory."""
        if len(frame) > largest_whole_frame(self.committee.device):
            return evaluate_chunked(self.committee.models[member], frame)
        if self._bound is None or not _differ_by_positions_alone(self._bound[0], frame):
            self._bound = frame, self.committee.bind([frame])
        return self._bound[1].prediction(member, torch.tensor(frame.positions, device=self.committee.device))

    def _warn(self, frame: Frame, result: Evaluation, *, stated: bool) -> None:
        """Warn once of a charge or spin that the campaign did not have, and once of a deviation it did not trust."""
        card, deviation = self.card, result.deviation
        if card is None:
            return
        if stated and card.systems and (frame.charge, frame.unpaired_electrons) not in card.charges_and_spins:
            self._warn_once(
                "charge",
                f"the structure has charge {frame.charge:+d} and {frame.unpaired_electrons} unpaired electrons; the "
                f"force field was trained for {'; '.join(map(str, card.systems))}, and does not see charges",
            )
        if deviation is not None and MEV_PER_EV * deviation.max() > card.trusted_mev_per_ang:
            self._warn_once(
                "deviation",
                f"the members disagree by {MEV_PER_EV * deviation.max():.0f} meV/Å on the force on atom "
                f"{int(deviation.argmax())}; the campaign trusts deviations up to {card.trusted_mev_per_ang:g} meV/Å. "
                "Later structures like this are not reported: watch the force deviation",
            )

    def _warn_once(self, subject: str, message: str) -> None:
        if subject not in self._warned:
            self._warned.add(subject)
            warnings.warn(message, ForceFieldWarning, stacklevel=5)


def _mean(tensors: Sequence[torch.Tensor]) -> FloatArray:
    return np.mean([each.cpu().numpy() for each in tensors], axis=0)


def _differ_by_positions_alone(first: Frame, second: Frame) -> bool:
    """Whether two frames have the same elements in the same order, the same cell and the same periodicity."""
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("numbers", "cell", "pbc"))


@contextmanager
def _threads_for(n_atoms: int, device: torch.device) -> Iterator[None]:
    """Use a single thread of torch for a small structure on a CPU."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or n_atoms >= SINGLE_THREAD_ATOMS:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
