"""The choice of the source of the initial frames (`initial.source: auto`): classical MD, or the reference method."""

from al_engine.config import OneSystemConfig
from al_engine.config.system import REFERENCE_ATOMS, REFERENCE_ATOMS_OF_IONS
from al_engine.errors import InputError
from al_engine.protocols import Reference
from samplers.building.electrons import electrons_by_fragment, unpaired_of
from samplers.building.system import System, unpaired_of_copy
from samplers.classical.classical import force_field_of, minimised_positions
from samplers.initial.reference_geometry import Outcome, covalent_kinds, geometry_disagreement, relaxation_outcome
from samplers.initial.reference_plan import single_points

REARRANGES = (
    "GFN2-xTB moves an atom of the molecule to another place when it relaxes the molecule, as the proton of a "
    "zwitterion in vacuum; so the initial frames come from MD by GFN2-xTB itself, and the force field learns what the "
    "molecule becomes"
)
"""Remark on a molecule that the reference method rearranges."""
REARRANGES_OUT_OF_REACH = (
    "GFN2-xTB moves an atom of the molecule to another place when it relaxes the molecule, as the proton of a "
    "zwitterion in vacuum. The classical force field of the initial frames keeps it in its place, so that the first "
    "iterations may end many trajectories and find many candidates. Start from the molecule that it becomes, or set "
    "initial.source to reference"
)
"""Remark on such a molecule if MD by GFN2-xTB would take long."""
RELAXED_ATOMS = 100
"""Largest molecule that is relaxed by GFN2-xTB to see whether it is rearranged: about a hundred single points."""


def with_initial_source(
    config: OneSystemConfig, system: System, reference: Reference
) -> tuple[OneSystemConfig, list[str]]:
    """Decide `initial.source: auto`, and refuse another source that cannot make the initial frames.

    Args:
        config: The config of the system.
        system: The system.
        reference: The reference method of the labels.

    Returns:
        The config with its source decided, and remarks on the decision.

    Raises:
        InputError: If the source cannot make the initial frames; with `auto`, if no source can.
    """
    source = config.initial.source
    if source == "file":
        return config, []
    if source == "reference":
        _refuse_unreachable(config, system)
        return config, []
    reason = _against_classical(system, config, reference)
    if not reason:  # classical MD is possible
        outcome = _outcome(config, system, reference) if source == "auto" else None
        rearranged, affordable = outcome is Outcome.REARRANGED, _is_small(system)
        notes = [REARRANGES if affordable else REARRANGES_OUT_OF_REACH] if rearranged else []
        by_reference = rearranged or (outcome is Outcome.KEPT and _is_of_several_molecules(system))
        return _with_source(config, "reference" if by_reference and affordable else "anneal"), notes
    if source == "anneal":
        raise InputError(
            f"initial.source: anneal: {reason}; set initial.source to reference (MD by the reference method itself), "
            "or give your own frames (initial.source: file)"
        )
    _refuse_unreachable(config, system, reason=reason)
    points = _single_points(config)
    if config.labels.backend == "ase":
        raise InputError(
            f"{reason}; set initial.source to reference, which runs MD by {config.labels.ase_calculator} itself, about "
            f"{points} single points, or give your own frames (initial.source: file)"
        )
    note = f"{reason}; initial frames come from MD by the reference method itself, {points} single points"
    return _with_source(config, "reference"), [note]


def _outcome(config: OneSystemConfig, system: System, reference: Reference) -> Outcome | None:
    """What becomes of the molecule when GFN2-xTB relaxes it; None if nothing depends on it.

    This MD is preferred for clusters of several molecules, although a classical force field could make the frames too:
    its frames are better (benchmarks/initial-sets.md). It is needed for molecules that rearrange, such as zwitterions
    in vacuum: a classical force field keeps their bonds, and the committee's MD would leave its frames at once. A
    molecule that falls apart would give frames of its fragments. MD of larger systems would take too long; then only
    molecules with opposite charges are relaxed, and the user is told of what becomes of them.
    """
    simulated_as_labelled = config.selection.cut_molecules is None and not config.initial.box_molecules
    cluster_by_gfn2 = config.labels.backend != "ase" and not system.frame.is_periodic
    if not (simulated_as_labelled and cluster_by_gfn2):
        return None
    suspect = len(system.molecule) <= RELAXED_ATOMS and _is_zwitterion(system)
    return relaxation_outcome(system, reference) if _is_small(system) or suspect else None


def _is_small(system: System) -> bool:
    """Whether MD by GFN2-xTB is affordable where it is not necessary."""
    return len(system.frame) <= (REFERENCE_ATOMS_OF_IONS if _has_ions(system) else REFERENCE_ATOMS)


def _is_zwitterion(system: System) -> bool:
    """Whether the system's molecule is a single one with positive and negative formal charges."""
    if system.several_fragments or system.molecule.rdkit is None:
        return False
    charges = [atom.GetFormalCharge() for atom in system.molecule.rdkit.GetAtoms()]
    return min(charges) < 0 < max(charges)


def _is_of_several_molecules(system: System) -> bool:
    return int(system.molecules.fragment_of_atom.max()) > 0


def _has_ions(system: System) -> bool:
    """Whether the system consists of several molecules, some of which have a charge."""
    charges = [charge for charge, _ in electrons_by_fragment(system.molecule) or ()]
    return any(charges) and len(charges) * system.n_molecules > 1


def _with_source(config: OneSystemConfig, source: str) -> OneSystemConfig:
    return config.model_copy(update={"initial": config.initial.model_copy(update={"source": source})})


def _single_points(config: OneSystemConfig) -> int:
    """Number of single points of the initial MD by the reference method."""
    return single_points(config.initial, config.sampling.temperatures_kelvin)


def _refuse_unreachable(config: OneSystemConfig, system: System, *, reason: str = "") -> None:
    """Refuse MD by the reference method for cut clusters and for boxes of `initial.box_molecules`.

    The reference method can simulate only the system that is labelled.

    Args:
        config: The config.
        system: The system.
        reason: Why `auto` ruled out classical MD; empty if the user chose the reference method. With a reason, a
            periodic system is refused too: its single points are too expensive to be chosen automatically.

    Raises:
        InputError: If the reference method cannot run this MD; the message names the setting to change.
    """
    prefix = f"{reason}; and " if reason else ""
    if config.selection.cut_molecules is not None:
        raise InputError(
            f"{prefix}MD by the reference method cannot simulate boxes from which clusters are cut to be labelled "
            "(selection.cut_molecules); give your own frames (initial.source: file)"
        )
    if config.initial.box_molecules:
        raise InputError(
            f"{prefix}MD by the reference method simulates the system itself: set initial.box_molecules to 0 and "
            "initial.source to reference, or give your own frames (initial.source: file)"
        )
    if reason and system.frame.is_periodic:
        raise InputError(
            f"{reason}; set initial.source to reference, which runs MD by the reference method itself, about "
            f"{_single_points(config)} single points of the box, or give your own frames (initial.source: file)"
        )


def _against_classical(system: System, config: OneSystemConfig, reference: Reference) -> str:
    """The reason why classical MD cannot make the initial frames, for a message; empty if it can."""
    try:
        field = force_field_of(system, boxed=bool(config.initial.box_molecules))
    except InputError as error:
        return str(error)
    if field == "UFF" and _has_ions(system):
        return (
            f"MMFF94 has no parameters for {system.molecule.source}, and UFF has no charges, which attract ions "
            "to each other"
        )
    for kind in covalent_kinds(system.molecule):
        is_whole = len(kind) == len(system.molecule)  # unpaired electrons may be stated for the whole molecule
        reason = geometry_disagreement(
            kind,
            minimised_positions(kind),
            field=field,
            unpaired_electrons=unpaired_of_copy(system) if is_whole else unpaired_of(kind),
            reference=reference,
            relax=config.labels.backend != "ase",
        )
        if reason:
            return reason
    return ""
