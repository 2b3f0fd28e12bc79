"""Checks before a campaign starts, which refuse inputs that would stop the campaign later; they compute a few labels.

`init`, `check` and the first `run` all call `preflight`, so they refuse the same inputs with the same messages.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from al_engine.campaign.labels import LabelOutcome, LevelOfTheory
from al_engine.config import (
    CampaignConfig,
    NamedSystemConfig,
    OneSystemConfig,
    SystemConfig,
)
from al_engine.errors import InputError
from al_engine.protocols import Progress, silent
from al_engine.seeds import derived_seed
from al_engine.structures.frames import Frame
from al_engine.structures.sanity import screen_system
from flows.compute.executors import refuse_contradictions, refuse_missing_packages
from flows.session.checks_together import CheckedData, checked_data, refuse_small_cell
from flows.session.initial_source import with_initial_source
from labelers.backends.registry import level_of_theory, resolve_backend
from labelers.checks.isolated_atoms import isolated_atoms, labelled_on_trial
from labelers.checks.reference import ReferenceMethod
from labelers.pool.cache import LabelCache
from labelers.pool.chunk import refusal
from samplers.building.clusters import cluster_of
from samplers.building.system import System, build_system
from samplers.initial.initial import checked_file_frames, starting_structures
from samplers.initial.reference_geometry import relaxed_system

OWN_OPTIONS = {
    "sampling.pressure_bar": "pressure_bar",
    "selection.cut_molecules": "cut_molecules",
    **{f"system.{name}": name for name in SystemConfig.model_fields},
}
"""Config keys in messages about a campaign of one system, and their names in an entry of `systems` instead."""
_System = TypeVar("_System", bound=SystemConfig)


@dataclass(frozen=True, slots=True)
class CheckedSystem:
    """Result of the checks of one system of a campaign.

    Attributes:
        config: The config of the system, with its automatic choices made.
        system: The system that is simulated.
        labelled: The structure that is labelled: the system, or a cluster cut from it.
        notes: Remarks for the user, a sentence each.
        labels: Labels that the checks computed by the reference method of the campaign.
        structures: Number of the user's starting structures.
    """

    config: OneSystemConfig
    system: System
    labelled: System
    notes: tuple[str, ...]
    labels: tuple[LabelOutcome, ...]
    structures: int


@dataclass(frozen=True, slots=True)
class Preflight:
    """Result of the checks of a campaign before its first stage.

    Attributes:
        config: The config with its automatic choices made.
        systems: The systems of the campaign.
        level: Level of theory of the labels.
        data: The user's own frames.
        atoms: Labels of isolated atoms.
    """

    config: CampaignConfig
    systems: tuple[CheckedSystem, ...]
    level: LevelOfTheory
    data: CheckedData
    atoms: tuple[LabelOutcome, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user, a sentence each."""
        of_systems = (
            f"{f'{checked.config.system_name}: ' if checked.config.system_name else ''}{note}"
            for checked in self.systems
            for note in checked.notes
        )
        return (*of_systems, *self.data.notes)

    @property
    def labels(self) -> tuple[LabelOutcome, ...]:
        """Labels that the checks computed by the reference method of the campaign."""
        return (*(label for checked in self.systems for label in checked.labels), *self.data.labels, *self.atoms)


def preflight(
    config: CampaignConfig, *, base_dir: Path, cache: LabelCache | None = None, progress: Progress = silent
) -> Preflight:
    """Check files, structures, charge and spin, elements and the labelling method of a campaign.

    Args:
        config: The config.
        base_dir: Folder that relative paths in the config start from.
        cache: Cache in which labels are looked up and new labels are stored, or None.
        progress: Called with the number of labels made.

    Returns:
        The config with its automatic choices made, the systems, and the remarks and labels of the checks.

    Raises:
        InputError: If a check fails; the message names the setting or file, and what to change.
    """
    refuse_contradictions(config.execution)
    refuse_missing_packages(config.execution)
    systems = {}
    for name, own in config.by_system.items():
        with _naming(name):
            systems[name] = build_system(own.system, base_dir=base_dir, seed=derived_seed(own.seed, "system"))
    elements = {number for system in systems.values() for number in system.frame.numbers.tolist()}
    _check_start(config, elements, base_dir=base_dir)  # before the first label: the check is quick
    config = with_automatic_choices(config)
    level = level_of_theory(config.labels, periodic=config.labels_boxes)
    checked = []
    for name, own in config.by_system.items():
        with _naming(name):
            checked.append(_checked(own, systems[name], level=level, base_dir=base_dir, cache=cache, progress=progress))
    simulated, labelled = [each.system for each in checked], [each.labelled.frame for each in checked]
    data = checked_data(config, simulated, labelled, level=level, base_dir=base_dir, cache=cache, progress=progress)
    _check_start(config, elements | data.elements, base_dir=base_dir)  # again, with the elements of the user's frames
    atoms: tuple[LabelOutcome, ...] = ()
    if config.training.reference_energies == "isolated_atoms":
        with ReferenceMethod(
            config.labels, config.selection, periodic=False, workers=1, cache=cache, remember=True
        ) as reference:
            labelled_on_trial(isolated_atoms(elements | data.elements, gfn2=level.backend != "ase"), reference)
            atoms = tuple(reference.made)
    return Preflight(_with_sources(config, [each.config for each in checked]), tuple(checked), level, data, atoms)


def _check_start(config: CampaignConfig, elements: set[int], *, base_dir: Path) -> None:
    """Check that the models that training starts from, if it does, know all elements.

    Raises:
        InputError: If the models do not know an element, or have another architecture than `model`.
    """
    start = config.training.start
    if config.inherited_iterations and config.training.warm_start:
        start = "."  # training goes on from the committee of the shared iterations
    if start is not None:
        from models.training.start import check_start

        check_start(base_dir / start, config.model, elements=sorted(elements))


@contextmanager
def _naming(system: str) -> Iterator[None]:
    """Begin the message of a failed check with the name of its system, and use the config keys of `systems`.

    The only system of a campaign has no name; its messages stay as they are.
    """
    try:
        yield
    except InputError as error:
        if not system:
            raise
        text = str(error)
        for option, own in OWN_OPTIONS.items():
            text = re.sub(rf"(?<![\w/.-]){re.escape(option)}(?![\w/])", own, text)
        raise InputError(f"{system}: {text}") from error


def _with_sources(config: CampaignConfig, checked: Sequence[OneSystemConfig]) -> CampaignConfig:
    """The config with the source of the initial frames (`initial.source`) that the checks decided for each system."""
    if not config.systems:
        return config.model_copy(update={"initial": checked[0].initial})
    systems = [
        named.model_copy(update={"initial": {**named.initial, "source": own.initial.source}})
        for named, own in zip(config.systems, checked, strict=True)
    ]
    return config.model_copy(update={"systems": systems})


def _checked(
    config: OneSystemConfig,
    system: System,
    *,
    level: LevelOfTheory,
    base_dir: Path,
    cache: LabelCache | None,
    progress: Progress,
) -> CheckedSystem:
    """Check a system of a campaign.

    Args:
        config: The config of the system, with its automatic choices made except `initial.source`.
        system: The system.
        level: Level of theory of the labels.
        base_dir: Folder that relative paths in the config start from.
        cache: As in `preflight`.
        progress: As in `preflight`.

    Raises:
        InputError: As `preflight`.
    """
    _refuse_crystals(system, config)
    _refuse_mixture_in_box(system, config)
    cut = config.selection.cut_molecules
    labelled = system if cut is None else cluster_of(system, cut, largest_charge=config.selection.cut_charge)
    _refuse_stretched_mixture(labelled, config)
    _refuse_unequal_clusters(labelled, config)
    built, gfn2 = config.system.built, level.backend != "ase"
    _refuse_unfit(labelled, config, distances=not built)
    if len(system.frame) == 1:
        raise InputError(
            f"{system.molecule.source} is a single atom, which has no forces to learn; simulate two atoms or more"
        )
    _refuse_charged_barostat(labelled, config)
    notes = [*system.molecule.notes, *_remarks(system, labelled, config)]
    elements = config.system.elements
    structures = starting_structures(system, config.system.structures, base_dir=base_dir, elements=elements)
    notes += structures.notes
    typical = labelled.frame  # the frame that is labelled on trial
    if config.initial.source == "file":
        from_file = checked_file_frames(system, labelled, config.initial, base_dir=base_dir, elements=elements)
        notes += from_file.notes
        alike = [frame for frame in from_file.frames if frame.is_periodic == typical.is_periodic]
        fit = (frame for frame in alike if refusal(frame, config.labels, config.selection) is None)
        typical = next(fit, next(iter(alike), typical))
    with ReferenceMethod(
        config.labels,
        config.selection,
        periodic=typical.is_periodic,
        cache=cache,
        remember=True,
        progress=progress,
    ) as reference:
        if not gfn2:  # a label of another method may take long
            reference.check(labelled.frame)
        elif not built:  # atoms from a file are labelled as they are; a built structure may be relaxed first
            _refuse_unlabelled(typical, reference)
            refuse_small_cell(typical, config.labels, reference)
        config, source_notes = with_initial_source(config, system, reference)
        notes += source_notes
        if gfn2 and config.initial.source == "reference":
            seed = derived_seed(config.seed, "system")
            system = relaxed_system(reference, system, config.system, seed=seed)
            labelled = system  # with this source, no clusters are cut
        if gfn2 and built:
            typical = typical if config.initial.source == "file" else labelled.frame
            _refuse_unfit(labelled, config)
            _refuse_unlabelled(typical, reference)
            refuse_small_cell(typical, config.labels, reference)
        labels = tuple(reference.made)
    return CheckedSystem(config, system, labelled, tuple(notes), labels, len(structures.frames))


def with_automatic_choices(config: CampaignConfig, *, begun: CampaignConfig | None = None) -> CampaignConfig:
    """The config with the automatic choices made that need no computation: `labels.backend` and the systems' `shape`.

    Args:
        config: The config.
        begun: The config that the campaign began with, or None. Where `config` has `auto`, its choices of backend,
            shape and source of the initial frames are kept.

    Raises:
        InputError: If the backend is not installed, or can't label periodic frames.
    """
    labels, initial = config.labels, config.initial
    begun_systems = {} if begun is None else {name: own.system for name, own in begun.by_system.items()}
    if begun is not None:
        if labels.backend == "auto":
            labels = labels.model_copy(update={"backend": begun.labels.backend})
        if initial.source == "auto" and not config.systems:
            initial = initial.model_copy(update={"source": begun.initial.source})
    systems = [_with_choices(named, begun_systems.get(named.name)) for named in config.systems]
    system = None if config.system is None else _with_choices(config.system, begun_systems.get(""))
    config = config.model_copy(update={"system": system, "systems": systems, "labels": labels, "initial": initial})
    backend = resolve_backend(labels, periodic=config.labels_boxes)
    return config.model_copy(update={"labels": labels.model_copy(update={"backend": backend})})


def _with_choices(system: _System, begun: SystemConfig | None) -> _System:
    """A system with its shape chosen, and with the choices that the campaign began with.

    Args:
        system: The system.
        begun: The same system in the config that the campaign began with, or None.
    """
    shape = system.shape or (None if begun is None else begun.shape) or "cluster"
    chosen: dict[str, object] = {"shape": shape}
    if isinstance(system, NamedSystemConfig) and isinstance(begun, NamedSystemConfig):
        undecided = system.initial.get("source", "auto") == "auto"
        if undecided and "source" in begun.initial:
            chosen["initial"] = {**system.initial, "source": begun.initial["source"]}
    return system.model_copy(update=chosen)


# -- reasons to refuse a campaign -------------------------------------------------------------------------------


def _refuse_unfit(labelled: System, config: OneSystemConfig, *, distances: bool = True) -> None:
    """Refuse a structure that cannot be labelled (`refusal`); without `distances`, atoms may be close."""
    frame = labelled.frame
    if distances:
        reason = refusal(frame, config.labels, config.selection)
    else:
        reason = screen_system(frame, gfn2=config.labels.backend != "ase")
    if reason is not None:
        raise InputError(f"the system ({labelled.molecule.source}) cannot be labelled: {reason}")


def _refuse_crystals(system: System, config: OneSystemConfig) -> None:
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


def _refuse_stretched_mixture(labelled: System, config: OneSystemConfig) -> None:
    """Refuse bond stretching for clusters of a mixture, which differ in their molecules and so in their bonds."""
    if config.initial.stretch.share and labelled.cut is not None and labelled.cut.electrons is not None:
        raise InputError(
            "initial.stretch.share: bonds are not stretched in clusters that are cut from a mixture; set it to 0"
        )


def _refuse_mixture_in_box(system: System, config: OneSystemConfig) -> None:
    """Refuse to anneal a mixture in a larger box: its molecules drift apart, so no copy of it can be cut out."""
    if config.initial.box_molecules and system.several_fragments:
        raise InputError(
            f"initial.box_molecules: {system.molecule.source} consists of several molecules, which drift apart in a "
            "larger box; set it to 0, or simulate the box itself and cut clusters from it (system.shape: box, "
            "selection.cut_molecules)"
        )


def _refuse_unequal_clusters(labelled: System, config: OneSystemConfig) -> None:
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


def _refuse_charged_barostat(labelled: System, config: OneSystemConfig) -> None:
    """Refuse constant pressure for a charged cell: how its energy depends on the volume has no physical meaning."""
    if labelled.frame.is_periodic and labelled.frame.charge and config.sampling.pressure_bar is not None:
        raise InputError(
            f"sampling.pressure_bar: the periodic cell has a net charge of {labelled.frame.charge:+d} e, whose energy "
            "against a uniform background depends on the volume; add counter-ions, or set sampling.pressure_bar to null"
        )


def _remarks(system: System, labelled: System, config: OneSystemConfig) -> list[str]:
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
    """Refuse a start structure for which the reference method fails."""
    if reference([frame])[0] is None:
        raise InputError(f"the start structure cannot be labelled: {reference.failure}")
