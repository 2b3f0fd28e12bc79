"""What is said of a force field wherever it goes: its method, systems, temperatures, verdict and audit error."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from al_engine.campaign import names
from al_engine.campaign.labels import stored_level
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.system import StoredSystem
from al_engine.errors import InputError, LedgerError
from al_engine.structures.frames import Frame

REFERENCES: Mapping[str, Sequence[str]] = {
    "architecture": (
        "Hu, Zhou and Jiang (2023), https://arxiv.org/abs/2312.09490",
        "Batatia, Kovács, Simm, Ortner and Csányi (2022), https://arxiv.org/abs/2206.07697",
    ),
    "implementation": ("al-engine",),
}
"""Publications to cite, by metatomic's kinds of references."""


@dataclass(frozen=True, slots=True)
class CardSystem:
    """A system that the force field was trained for.

    Attributes:
        name: Its name; empty in a campaign of a single system.
        formula: Hill formula of the labelled structure.
        n_atoms: Number of its atoms.
        charge: Total charge in e.
        unpaired_electrons: Number of unpaired electrons.
        periodic: Whether boxes were labelled.
    """

    name: str
    formula: str
    n_atoms: int
    charge: int
    unpaired_electrons: int
    periodic: bool

    def __str__(self) -> str:
        charge = f", charge {self.charge:+d}" if self.charge else ""
        spin = f", {self.unpaired_electrons} unpaired electrons" if self.unpaired_electrons else ""
        box = ", periodic" if self.periodic else ""
        return f"{f'{self.name}: ' if self.name else ''}{self.formula}{charge}{spin}{box}"


@dataclass(frozen=True, slots=True)
class Card:
    """What a campaign says of its force field.

    Attributes:
        campaign: Name of the campaign.
        method: Method of the labels with its program and version; empty before the first label.
        systems: The systems.
        temperatures_kelvin: Temperatures of the committee's MD, K, ascending.
        iterations: Number of finished iterations.
        n_labels: Number of labelled frames in the data set.
        verdict: Why the campaign stopped, such as `converged`; None if it has not.
        evidence: The evidence of the verdict in words; empty without a verdict.
        test_force_mae_mev_per_ang: Mean absolute error of force components on the test set; None before it was scored.
        audit: The statement of the newest audit; empty without an audit.
        trusted_mev_per_ang: Force deviation up to which the campaign counts a frame as accurate, meV/Å.
        superseded: Whether the campaign has a newer committee, so that its verdict is not of this one.
    """

    campaign: str
    method: str
    systems: tuple[CardSystem, ...]
    temperatures_kelvin: tuple[float, ...]
    iterations: int
    n_labels: int
    verdict: str | None
    evidence: str
    test_force_mae_mev_per_ang: float | None
    audit: str
    trusted_mev_per_ang: float
    superseded: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON-able values."""
        return asdict(self)

    @property
    def charges_and_spins(self) -> set[tuple[int, int]]:
        """Charge and number of unpaired electrons of the systems."""
        return {(system.charge, system.unpaired_electrons) for system in self.systems}

    def text(self) -> str:
        """The card in words, a line for each subject."""
        kelvins = ", ".join(f"{kelvin:g}" for kelvin in self.temperatures_kelvin)
        method = self.method or "an unknown method"
        none = "none, the campaign has a newer committee" if self.superseded else "none, the campaign has not stopped"
        verdict = self.verdict or none
        lines = [
            f"Force field of the campaign {self.campaign}, trained on {self.n_labels} labels by {method}.",
            f"Systems: {'; '.join(map(str, self.systems))}. Temperatures: {kelvins} K.",
            f"Verdict: {verdict}{f' ({self.evidence})' if self.evidence else ''}.",
        ]
        if self.test_force_mae_mev_per_ang is not None:
            lines.append(f"Mean absolute force error on the test set: {self.test_force_mae_mev_per_ang:.1f} meV/Å.")
        if self.audit and self.verdict is None:  # the evidence of a verdict contains the audit
            lines.append(f"Audit: {self.audit}.")
        lines.append(f"Frames with a force deviation above {self.trusted_mev_per_ang:g} meV/Å are not trusted.")
        return "\n".join(lines)


def card_of(directory: Path, *, iteration: int | None = None) -> Card:
    """The card of a committee of a campaign.

    Args:
        directory: The campaign directory.
        iteration: Iteration of the committee; None: the newest.

    Raises:
        InputError: If the directory is not a campaign directory, or a file in it is damaged.
    """
    ledger = Ledger.open(directory)
    config, history, verdict, level = ledger.config, ledger.history(), ledger.verdict(), stored_level(ledger)
    size = ledger.dataset_size()
    superseded = iteration is not None and iteration < len(history) - 1
    if iteration is not None and superseded:
        history, verdict, size = history[: iteration + 1], None, ledger.reader().dataset_size(before=iteration)
    last = history[-1] if history else None
    audits = [record.audit for record in history if record.audit is not None]
    window = None if last is None else last.window
    return Card(
        campaign=config.name,
        method="" if level is None else f"{level['method']} ({level['backend']} {level['backend_version']})",
        systems=tuple(_systems(ledger)),
        temperatures_kelvin=tuple(sorted({point.temperature_kelvin for point in config.state_points})),
        iterations=len(history),
        n_labels=size,
        verdict=None if verdict is None else verdict.kind.value,
        evidence="" if verdict is None else verdict.evidence,
        test_force_mae_mev_per_ang=None if last is None else last.test_force_mae_mev_per_ang,
        audit=audits[-1].summary()["statement"] if audits else "",
        trusted_mev_per_ang=config.selection.lower_mev_per_ang if window is None else window.lower_mev_per_ang,
        superseded=superseded,
    )


def card_beside(path: Path, *, iteration: int | None = None) -> Card | None:
    """The card of the campaign that a directory or a `campaign.h5` belongs to; None if there is none to be read.

    Args:
        path: The directory or the file.
        iteration: As in `card_of`.
    """
    try:
        return card_of(path if path.is_dir() else path.parent, iteration=iteration)
    except (InputError, LedgerError):  # such as a file of members alone
        return None


def _systems(ledger: Ledger) -> list[CardSystem]:
    parts = ledger.reader()
    found = []
    for name, source in zip(ledger.config.by_system, names.all_initial_frames(ledger.config), strict=True):
        if source in parts.names:
            with parts.open(source) as root:
                stored = StoredSystem.read(root)
            found.append(_system(name, stored.frame if stored.cluster is None else stored.cluster))
    return found


def _system(name: str, frame: Frame) -> CardSystem:
    from ase.data import chemical_symbols
    from ase.formula import Formula

    return CardSystem(
        name=name,
        formula=Formula.from_list([chemical_symbols[number] for number in frame.numbers]).format("hill"),
        n_atoms=len(frame),
        charge=frame.charge,
        unpaired_electrons=frame.unpaired_electrons,
        periodic=frame.is_periodic,
    )
