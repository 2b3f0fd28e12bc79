"""What is tried for a frame whose self-consistent field does not converge: a ladder, rung by rung.

Every rung ends in a calculation at the campaign's own settings. Only how it gets there differs: more cycles, stronger
damping, or the orbitals of a calculation at a higher electronic temperature to start from. None of them moves the point
that is converged to, so a label from any rung is of the campaign's level of theory. Which rung it was is recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from al_engine.campaign.labels import LabelReason
from al_engine.structures.frames import FloatArray, Frame
from labelers.backends.protocol import Labeler, LabelError


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to converge.

    Attributes:
        name: As recorded.
        cycles: SCF cycles, in units of `labels.max_scf_iterations`.
        damping: Share of the new density mixed into the old one; None: the backend's own.
        start_kelvin: Electronic temperature of a calculation made before, which the one that counts starts from.
    """

    name: str
    cycles: int = 1
    damping: float | None = None
    start_kelvin: float | None = None


PLAIN = Rung("")
"""As configured."""
# Twice the cycles and no more: mixing remembers all of them, so that 1000 take a hundred times as long as 250.
MORE_CYCLES = Rung("more cycles", cycles=2)
DAMPED = Rung("damped", cycles=2, damping=0.1)
WARM = Rung("started at 3000 K", start_kelvin=3000.0)
HOT = Rung("started at 10000 K", start_kelvin=10_000.0)


@runtime_checkable
class Rescuer(Protocol):
    """A labeler that knows other ways to converge."""

    rungs: Sequence[Rung]
    """In the order in which they are tried."""

    def label_on(self, rung: Rung, frame: Frame) -> tuple[float, FloatArray]:
        """As `Labeler.label`, on a rung of the ladder.

        Raises:
            LabelError: If the frame can't be labelled that way.
        """


def label_or_rescue(labeler: Labeler, frame: Frame) -> tuple[float, FloatArray, str]:
    """Label a frame, on the first rung that converges.

    Args:
        labeler: The labeler; one that is no `Rescuer` has no ladder.
        frame: The frame.

    Returns:
        Energy in eV, forces in eV/Å, shape (N, 3), and the name of the rung, empty where none was needed.

    Raises:
        LabelError: If it can't be labelled; on no rung, if it does not converge.
    """
    try:
        return (*labeler.label(frame), PLAIN.name)
    except LabelError as error:
        if error.reason is not LabelReason.NOT_CONVERGED or not isinstance(labeler, Rescuer):
            raise
        first = error
    for rung in labeler.rungs:
        try:
            return (*labeler.label_on(rung, frame), rung.name)
        except LabelError as error:
            if error.reason is not LabelReason.NOT_CONVERGED:
                raise
    tried = ", ".join(rung.name for rung in labeler.rungs)
    raise LabelError(LabelReason.NOT_CONVERGED, f"{first.message}; nor by rescue ({tried})") from first
