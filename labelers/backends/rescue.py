"""Rescue of frames whose self-consistent field (SCF) does not converge: a ladder of rungs, tried in order.

Every rung ends in a calculation with the campaign's settings. Rungs differ only in the way to convergence: more cycles,
stronger damping, or a start from the orbitals of a calculation at a higher electronic temperature. None of these
changes the converged solution, so a label from any rung has the campaign's level of theory. The rung's name is recorded
with the label.

A frame whose SCF does not converge soon is started from calculations at higher temperatures first, each of which takes
as long as a label or two. Of 36 geometries of small salts in vacuum, 12 converged soon, and 24 from one of the four
temperatures, all within 0.12 s. With 250 cycles at the campaign's temperature 24 converged, to the same energies; 500
cycles took 4 to 8 s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from al_engine.campaign.labels import LabelReason
from al_engine.structures.frames import Frame
from labelers.backends.protocol import Label, Labeler, LabelError


@dataclass(frozen=True, slots=True)
class Rung:
    """A way to converge the SCF.

    Attributes:
        name: The name recorded with the label.
        cycles: Largest number of SCF cycles, in units of `labels.max_scf_iterations` (`largest_cycles`).
        damping: Fraction of the new density mixed into the old one; None: the backend's default.
        start_kelvin: Electronic temperature, K, of a preceding calculation that gives the starting orbitals; None: no
            preceding calculation.
    """

    name: str
    cycles: float = 1.0
    damping: float | None = None
    start_kelvin: float | None = None

    def largest_cycles(self, max_scf_iterations: int) -> int:
        """Largest number of SCF cycles."""
        return max(1, round(self.cycles * max_scf_iterations))


PLAIN = Rung("")
"""The configured settings."""
SHORT = Rung("", cycles=0.2)
"""The configured settings with few cycles: within them, most frames converge."""
# More than twice the cycles would take too long: the mixer keeps all previous cycles, and 1000 cycles take a hundred
# times as long as 250.
MORE_CYCLES = Rung("more cycles", cycles=2.0)
DAMPED = Rung("damped", cycles=2.0, damping=0.1)
WARM = tuple(
    Rung(f"started at {kelvin} K", cycles=0.4, start_kelvin=float(kelvin)) for kelvin in (3000, 1500, 6000, 10_000)
)
"""Starts from other temperatures: where one does not converge, another does."""


@runtime_checkable
class Rescuer(Protocol):
    """A labeler with a rescue ladder."""

    rungs: Sequence[Rung]
    """The rungs of the ladder, in the order in which they are tried."""

    def label_on(self, rung: Rung, frame: Frame) -> Label:
        """Compute the label of a frame, as `Labeler.label` does, with the settings of a rung.

        Raises:
            LabelError: If the frame can't be labelled on this rung.
        """


def label_or_rescue(labeler: Labeler, frame: Frame) -> tuple[Label, str]:
    """Label a frame with the configured settings; if the SCF does not converge soon, on the first rung that converges.

    Args:
        labeler: The labeler; a labeler that is not a `Rescuer` has no ladder.
        frame: The frame.

    Returns:
        The label, and the name of the rung (empty for the configured settings).

    Raises:
        LabelError: If the frame can't be labelled, or the SCF converges neither at first nor on any rung.
    """
    if not isinstance(labeler, Rescuer):
        return Label(*labeler.label(frame)), PLAIN.name
    failures: list[LabelError] = []
    for rung in (SHORT, *labeler.rungs):
        try:
            return Label(*labeler.label_on(rung, frame)), rung.name
        except LabelError as error:
            if error.reason is not LabelReason.NOT_CONVERGED:
                raise
            failures.append(error)
    first, tried = failures[0], ", ".join(rung.name for rung in labeler.rungs)
    raise LabelError(LabelReason.NOT_CONVERGED, f"{first.message}; nor by rescue ({tried})") from first
