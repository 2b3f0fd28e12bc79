"""Checks before a campaign starts, which take seconds: they refuse inputs that would stop the campaign later.

`init`, `check` and the first `run` all call `preflight`, so they refuse the same inputs with the same messages.
"""

from dataclasses import dataclass
from pathlib import Path

from al_engine.campaign.labels import LabelOutcome, LevelOfTheory
from al_engine.config import CampaignConfig, LabelsConfig, SelectionConfig
from al_engine.config.system import REFERENCE_ATOMS
from al_engine.errors import InputError
from al_engine.protocols import Progress, Reference, silent
from al_engine.seeds import derived_seed
from al_engine.structures.frames import Frame
from al_engine.structures.sanity import screen_frame
from labelers.backends.registry import level_of_theory, resolve_backend
from labelers.checks.cell_check import changes_when_doubled, too_small
from labelers.checks.reference import ReferenceMethod
from labelers.pool.cache import LabelCache
from samplers.building.clusters import cluster_of, electrons_by_fragment
from samplers.building.system import System, build_system, unpaired_of, unpaired_of_copy
from samplers.classical.classical import force_field_of, minimised_positions
from samplers.initial.initial import checked_file_frames
from samplers.initial.reference_geometry import covalent_kinds, geometry_disagreement, keeps_bonds, relaxed_system
from samplers.initial.reference_plan import single_points


@dataclass(frozen=True, slots=True)
class Preflight:
    """Result of the checks of a campaign before its first stage.

    Attributes:
        config: The config with its automatic choices made.
        system: The system that is simulated.
        labelled: The structure that is labelled: the system, or a cluster cut from it.
        level: Level of theory of the labels.
        notes: Remarks for the user, a sentence each.
        labels: Labels that the checks computed with the campaign's own method.
    """

    config: CampaignConfig
    system: System
    labelled: System
    level: LevelOfTheory
    notes: tuple[str, ...]
    labels: tuple[LabelOutcome, ...]


def preflight(
    config: CampaignConfig, *, base_dir: Path, cache: LabelCache | None = None, progress: Progress = silent
) -> Preflight:
    """Check files, structure, charge and spin, elements and the labelling method of a campaign, in seconds.

    Args:
        config: The config.
        base_dir: Folder that relative paths in the config start from.
        cache: Labels that exist already, or None.
        progress: Called with the number of labels made.

    Returns:
        The config with its automatic choices made, the system, and the remarks and labels of the checks.

    Raises:
        InputError: If a check fails; the message names the setting or file, and what to change.
    """
    seed = derived_seed(config.seed, "system")
    system = build_system(config.system, base_dir=base_dir, seed=seed)
    if config.training.start is not None:
        from models.training.start import check_start

        check_start(base_dir / config.training.start, config.model, elements=sorted(set(system.frame.numbers.tolist())))
    config = with_automatic_choices(config)
    _refuse_crystals(system, config)
    _refuse_mixture_in_box(system, config)
    cut = config.selection.cut_molecules
    labelled = system if cut is None else cluster_of(system, cut, largest_charge=config.selection.cut_charge)
    _refuse_stretched_mixture(labelled, config)
    _refuse_unequal_clusters(labelled, config)
    level = level_of_theory(config.labels, periodic=labelled.frame.is_periodic)
    built = config.system.built
    _refuse_unfit(labelled, config.selection, gfn2=level.backend != "ase", distances=not built)
    if len(system.frame) == 1:
        raise InputError(
            f"{system.molecule.source} is a single atom, which has no forces to learn; simulate two atoms or more"
        )
    _refuse_charged_barostat(labelled, config)
    notes = [*system.molecule.notes, *_remarks(system, labelled, config)]
    typical = labelled.frame
    if config.initial.source == "file":
        found = checked_file_frames(
            system, labelled, config.initial, base_dir=base_dir, elements=config.system.elements
        )
        notes += found.notes
        typical = next((frame for frame in found.frames if frame.is_periodic == typical.is_periodic), typical)
    with ReferenceMethod(
        config.labels, periodic=typical.is_periodic, cache=cache, remember=True, progress=progress
    ) as reference:
        if level.backend == "ase":
            reference.check(labelled.frame)
        elif not built:  # a file is labelled as it is; a built structure may be relaxed first
            _refuse_unlabelled(typical, reference)
            _refuse_small_cell(typical, config.labels, reference)
        config, note = _with_initial_source(config, system, reference)
        if level.backend != "ase" and config.initial.source == "reference":
            labelled = system = relaxed_system(reference, system, config.system, seed=seed)
        if level.backend != "ase" and built:
            typical = typical if config.initial.source == "file" else labelled.frame
            _refuse_unfit(labelled, config.selection, gfn2=True)
            _refuse_unlabelled(typical, reference)
            _refuse_small_cell(typical, config.labels, reference)
        labels = tuple(reference.made)
    return Preflight(config, system, labelled, level, (*notes, *note), labels)


def with_automatic_choices(config: CampaignConfig, *, begun: CampaignConfig | None = None) -> CampaignConfig:
    """The config with the automatic choices made that need no computation: `labels.backend` and `system.shape`.

    Args:
        config: The config.
        begun: The config that the campaign began with, or None. Its choices of backend, shape and source of the initial
            frames are kept.
    """
    system, labels, initial = config.system, config.labels, config.initial
    if begun is not None:
        if system.shape is None:
            system = system.model_copy(update={"shape": begun.system.shape})
        if labels.backend == "auto":
            labels = labels.model_copy(update={"backend": begun.labels.backend})
        if initial.source == "auto":
            initial = initial.model_copy(update={"source": begun.initial.source})
    system = system.model_copy(update={"shape": system.shape or "cluster"})
    config = config.model_copy(update={"system": system, "labels": labels, "initial": initial})
    backend = resolve_backend(labels, periodic=config.labels_boxes)
    return config.model_copy(update={"labels": labels.model_copy(update={"backend": backend})})


# -- reasons to refuse a campaign -------------------------------------------------------------------------------


def _refuse_unfit(labelled: System, selection: SelectionConfig, *, gfn2: bool, distances: bool = True) -> None:
    """Refuse a system that cannot be labelled; with `distances`, also a system whose atoms are too close."""
    reason = screen_frame(
        labelled.frame,
        min_distance_ang=selection.min_distance_ang if distances else 0.0,
        min_contact_factor=selection.min_contact_factor if distances else 0.0,
        gfn2=gfn2,
    )
    if reason is not None:
        raise InputError(f"the system ({labelled.molecule.source}) cannot be labelled: {reason}")


def _refuse_crystals(system: System, config: CampaignConfig) -> None:
    """Refuse to move or cut molecules that are bonded to their own periodic images."""
    options = {
        "sampling.pressure_bar": config.sampling.pressure_bar,
        "selection.cut_molecules": config.selection.cut_molecules,
    }
    used = [name for name, value in options.items() if value is not None]
    if used and system.molecule.endless:
        raise InputError(
            f"{used[0]}: {system.molecule.source} is bonded to its own periodic images, so it has no molecules to "
            f"move or cut out; set {' and '.join(used)} to null"
        )


def _refuse_stretched_mixture(labelled: System, config: CampaignConfig) -> None:
    """Refuse bond stretching for clusters of a mixture, which differ in their molecules and so in their bonds."""
    if config.initial.stretch.share and labelled.cut is not None and labelled.cut.electrons is not None:
        raise InputError(
            "initial.stretch.share: bonds are not stretched in clusters that are cut from a mixture; set it to 0"
        )


def _refuse_mixture_in_box(system: System, config: CampaignConfig) -> None:
    """Refuse to anneal a mixture in a larger box: its molecules drift apart, so no copy of it could be cut out."""
    if config.initial.box_molecules and system.several_fragments:
        raise InputError(
            f"initial.box_molecules: {system.molecule.source} consists of several molecules, which drift apart in a "
            "larger box; set it to 0, or simulate the box itself and cut clusters from it (system.shape: box, "
            "selection.cut_molecules)"
        )


def _refuse_unequal_clusters(labelled: System, config: CampaignConfig) -> None:
    """Refuse clusters of different charge or spin if the calculator's parameters set charge and spin for all frames."""
    electrons = None if labelled.cut is None else labelled.cut.electrons
    fixed = config.labels.backend == "ase" and config.labels.ase_charge_and_spin == "parameters"
    if electrons is None or not fixed:
        return
    if electrons.unpaired_electrons.any() or (electrons.charge.any() and electrons.largest_charge):
        raise InputError(
            "labels.ase_charge_and_spin: `parameters` sets the same charge and spin for all frames, but clusters of a "
            "mixture with radicals, or with ions and selection.cut_charge above 0, differ in them; set it to `auto` or "
            "`atoms`"
        )


def _refuse_charged_barostat(labelled: System, config: CampaignConfig) -> None:
    """Refuse constant pressure for a charged cell: its energy has no physical meaning as a function of the volume."""
    if labelled.frame.is_periodic and labelled.frame.charge and config.sampling.pressure_bar is not None:
        raise InputError(
            f"sampling.pressure_bar: the periodic cell has a net charge of {labelled.frame.charge:+d} e, whose energy "
            "against a uniform background depends on the volume; add counter-ions, or set sampling.pressure_bar to null"
        )


def _remarks(system: System, labelled: System, config: CampaignConfig) -> list[str]:
    """Remarks on settings that are allowed but may be mistakes."""
    charge, formal = config.system.charge, system.molecule.formal_charge
    notes = [
        f"{part.source} has no formal charge, but is given {part.charge:+d} e: electrons are removed or added"
        for part, _ in system.molecule.components
        if part.charge and part.formal_charge == 0
    ]
    if charge and formal == 0:
        notes.append(
            f"system.charge {charge:+d}: {system.molecule.source} has no formal charge; electrons are removed or added "
            "to reach this charge"
        )
    if labelled.frame.is_periodic and labelled.frame.charge:
        notes.append(
            f"the periodic cell has a net charge of {labelled.frame.charge:+d} e, against a uniform background: its "
            "forces are valid, but its energies depend on the size and shape of the cell and cannot be compared with "
            "the energies of other cells"
        )
    return notes


def _refuse_unlabelled(frame: Frame, reference: ReferenceMethod) -> None:
    if reference([frame])[0] is None:
        raise InputError(f"the start structure cannot be labelled: {reference.failure}")


def _refuse_small_cell(frame: Frame, config: LabelsConfig, reference: ReferenceMethod) -> None:
    """Refuse a periodic cell that is too small for the Γ point alone."""
    if not frame.is_periodic:
        return
    changes = changes_when_doubled(frame, reference, max_height_ang=config.cell_check.max_height_ang)
    if changes is None:
        raise InputError(
            "it is not known whether the cell is large enough for GFN2-xTB, because doubled cells have no label "
            f"({reference.failure}); use a larger cell, or set labels.cell_check.max_height_ang to 0"
        )
    reason = too_small(changes, frame, config.cell_check)
    if reason:
        raise InputError(reason)


def _with_initial_source(
    config: CampaignConfig, system: System, reference: Reference
) -> tuple[CampaignConfig, list[str]]:
    """Decide `initial.source: auto`; returns the config, and remarks on the decision.

    Raises:
        InputError: If no source can make the initial frames.
    """
    source = config.initial.source
    if source == "file":
        return config, []
    if source == "reference":
        _refuse_unreachable(config, system)
        return config, []
    reason = _against_classical(system, config, reference)
    if not reason:
        by_reference = source == "auto" and _reference_is_better(config, system, reference)
        return _with_source(config, "reference" if by_reference else "anneal"), []
    if source == "anneal":
        raise InputError(
            f"initial.source: anneal: {reason}; set initial.source to reference (MD by the reference method itself), "
            "or give your own frames (initial.source: file)"
        )
    _refuse_unreachable(config, system, reason=reason)
    if config.labels.backend == "ase":
        raise InputError(
            f"{reason}; set initial.source to reference, which runs MD by {config.labels.ase_calculator} itself, about "
            f"{_single_points(config)} single points, or give your own frames (initial.source: file)"
        )
    points = _single_points(config)
    note = f"{reason}; initial frames come from MD by the reference method itself, {points} single points"
    return _with_source(config, "reference"), [note]


def _reference_is_better(config: CampaignConfig, system: System, reference: Reference) -> bool:
    """Whether MD by GFN2-xTB makes better initial frames than the force field, although the force field is usable.

    That is so for clusters of several molecules: benchmarks/initial-sets.md. MD of more than `REFERENCE_ATOMS` atoms
    would take too long. Molecules that lose a bond when GFN2-xTB relaxes them, such as zwitterions in vacuum, would not
    last through this MD.
    """
    fragments = int(system.molecules.fragment_of_atom.max()) + 1
    own_system = config.selection.cut_molecules is None and not config.initial.box_molecules
    cheap = config.labels.backend != "ase" and not system.frame.is_periodic and len(system.frame) <= REFERENCE_ATOMS
    return fragments > 1 and own_system and cheap and keeps_bonds(system, reference)


def _has_ions(system: System) -> bool:
    """Whether the system consists of several molecules, some of which have a charge."""
    charges = [charge for charge, _ in electrons_by_fragment(system.molecule)]
    return any(charges) and len(charges) * system.n_molecules > 1


def _with_source(config: CampaignConfig, source: str) -> CampaignConfig:
    return config.model_copy(update={"initial": config.initial.model_copy(update={"source": source})})


def _single_points(config: CampaignConfig) -> int:
    return single_points(config.initial, config.sampling.temperatures_kelvin)


def _refuse_unreachable(config: CampaignConfig, system: System, *, reason: str = "") -> None:
    """Refuse MD by the reference method for cut clusters and for boxes of `initial.box_molecules`.

    The reference method can simulate only the system that is labelled.

    Args:
        config: The config.
        system: The system.
        reason: Why `auto` ruled out classical MD; empty if the user chose the reference method. With a reason, a
            periodic system is refused too: its single points are too expensive to be chosen automatically.

    Raises:
        InputError: With the setting to change.
    """
    start = f"{reason}; and " if reason else ""
    if config.selection.cut_molecules is not None:
        raise InputError(
            f"{start}MD by the reference method cannot simulate boxes from which clusters are cut to be labelled "
            "(selection.cut_molecules); give your own frames (initial.source: file)"
        )
    if config.initial.box_molecules:
        raise InputError(
            f"{start}MD by the reference method simulates the system itself: set initial.box_molecules to 0 and "
            "initial.source to reference, or give your own frames (initial.source: file)"
        )
    if reason and system.frame.is_periodic:
        raise InputError(
            f"{reason}; set initial.source to reference, which runs MD by the reference method itself, about "
            f"{_single_points(config)} single points of the box, or give your own frames (initial.source: file)"
        )


def _against_classical(system: System, config: CampaignConfig, reference: Reference) -> str:
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
        alone = len(kind) == len(system.molecule)
        reason = geometry_disagreement(
            kind,
            minimised_positions(kind),
            field=field,
            unpaired_electrons=unpaired_of_copy(system) if alone else unpaired_of(kind),
            reference=reference,
            relax=config.labels.backend != "ase",
        )
        if reason:
            return reason
    return ""
