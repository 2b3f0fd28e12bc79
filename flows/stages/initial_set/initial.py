"""Stage `initial-frames`: build the system, and make the initial and the test frames."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.inputs import input_file_hashes
from al_engine.campaign.labels import LevelOfTheory
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.system import StoredSystem
from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import write_frames
from al_engine.seeds import derived_seed
from al_engine.structures.frames import Frame
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.labels.labelling import other_limits


def plan(ledger: Ledger, level: LevelOfTheory, system: str = "") -> Stage:
    """The stage of a system.

    Args:
        ledger: The campaign.
        level: The level of theory of the labels. It is an input of the stage only if the frames come from MD by the
            reference method.
        system: Name of the system; empty in a campaign of one system.
    """
    config = ledger.config.by_system[system]
    inputs: dict[str, Any] = {
        "system": config.system.key_values(),
        "initial": config.initial.key_values(),
        "cut_molecules": config.selection.cut_molecules,
        # Left out if it is 0, because the keys of earlier versions lack it.
        **({"cut_charge": config.selection.cut_charge} if config.selection.cut_charge else {}),
        "temperatures": config.sampling.temperatures_kelvin,
        "files": input_file_hashes(config, ledger.directory),
        "seed": config.seed,
    }
    if config.initial.source == "reference":
        inputs["level"] = level.fingerprint()
        inputs |= other_limits(config)  # a frame beyond the limits has no label, and ends its trajectory
    return Stage(
        name=names.initial_frames(system),
        job=f"{__name__}:build",
        inputs=inputs,
        parents=(),
        arguments={"name": system},
    )


def build(work: Work, *, name: str) -> None:
    """Build a system, make its initial and test frames, and write them.

    The frames come from an anneal, from MD by the reference method, or from the user's file. Anneal and MD continue
    from their checkpoint.

    Args:
        work: The stage call.
        name: Name of the system; empty in a campaign of one system.

    Raises:
        InputError: If the system cannot be built, or the labeler cannot label its frames.
    """
    from labelers.checks.reference import ReferenceMethod
    from samplers.building.clusters import cluster_of
    from samplers.building.system import build_system
    from samplers.initial.initial import initial_frames, starting_structures
    from samplers.initial.reference_geometry import relaxed_system

    config = work.config.by_system[name]
    seed = derived_seed(config.seed, "system")
    system = build_system(config.system, base_dir=work.directory, seed=seed)
    with ExitStack() as stack:
        reference = None  # only MD by the reference method needs it
        if config.initial.source == "reference":
            periodic, workers = system.frame.is_periodic, work.label_workers
            reference = stack.enter_context(
                ReferenceMethod(config.labels, config.selection, periodic=periodic, workers=workers)
            )
            system = relaxed_system(reference, system, config.system, seed=seed)
        elements, base = config.system.elements, work.directory
        structures = starting_structures(system, config.system.structures, base_dir=base, elements=elements).frames
        cut_molecules, largest_charge = config.selection.cut_molecules, config.selection.cut_charge
        cluster = None if cut_molecules is None else cluster_of(system, cut_molecules, largest_charge=largest_charge)
        initial = initial_frames(
            system,
            config.initial,
            config.sampling.temperatures_kelvin,
            base_dir=base,
            seed=derived_seed(config.seed, "initial"),
            cluster=cluster,
            structures=structures,
            elements=elements,
            reference=reference,
            checkpoint=work.helper(".checkpoint"),
            key=work.outputs[0].key,
            progress=work.progress,
        )
    stored = StoredSystem(
        system.frame,
        system.bonds,
        system.molecules,
        cluster=None if cluster is None else cluster.frame,
        electrons=None if cluster is None or cluster.cut is None else cluster.cut.electrons,
        has_ions=system.has_ions,
        has_open_shells=system.has_open_shells,
    )
    refuse_mixed_charges([stored.cluster or stored.frame, *initial.train, *initial.test], config.labels)
    with work.write() as root:
        stored.write(root)
        for group, frames, temperatures in (
            ("train", initial.train, initial.train_temperature_kelvin),
            ("test", initial.test, initial.test_temperature_kelvin),
            ("starts", initial.starts, initial.starts_temperature_kelvin),
        ):
            write_frames(root.create_group(group), frames)
            root[group]["temperature_kelvin"] = np.asarray(temperatures, dtype="<f8")
        root["train"]["stretched"] = initial.train_stretched
        if structures:
            write_frames(root.create_group("structures"), structures)
        if initial.test_central is not None:
            root["test"]["central"] = np.concatenate(initial.test_central)
        root.attrs["force_field"] = initial.force_field
        cut = ""
        if stored.electrons is not None:  # a mixture, whose clusters differ in their numbers of atoms
            cut = f", cut to clusters of {cut_molecules} molecules"
        elif stored.cluster is not None:
            cut = f", cut to clusters of {len(stored.cluster)}"
        made = f"{len(initial.train)} initial and {len(initial.test)} test frames of {len(system.frame)} atoms"
        summarise(root, f"{made} by {initial.force_field}{cut}")
    work.helper(".checkpoint").unlink(missing_ok=True)


def refuse_mixed_charges(frames: Sequence[Frame], config: LabelsConfig) -> None:
    """Refuse frames of several charges or spins if the calculator's parameters set charge and spin for all frames.

    Raises:
        InputError: If `labels.ase_charge_and_spin` is `parameters` and charge or spin differ between frames.
    """
    kinds = sorted({(frame.charge, frame.unpaired_electrons) for frame in frames})
    if config.backend == "ase" and config.ase_charge_and_spin == "parameters" and len(kinds) > 1:
        listed = ", ".join(f"charge {charge:+d} with {unpaired} unpaired electrons" for charge, unpaired in kinds)
        raise InputError(
            "labels.ase_charge_and_spin: `parameters` sets the same charge and spin for all frames, but the system and "
            f"initial.file have several ({listed}). Remove frames from the file, or set the option to `auto` or "
            "`atoms` in a copy of the config, and start over with another --dir"
        )
