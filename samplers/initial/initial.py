"""The initial training set and the test set, from an anneal, from MD by the reference method, or from the user's file.

The test set is labelled but never trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from al_engine.config import InitialConfig
from al_engine.errors import InputError
from al_engine.protocols import Progress, Reference, silent
from al_engine.seeds import derived_rng, derived_seed
from al_engine.structures.clusters import ClusterCut, nearest_molecules
from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray
from samplers.building.system import System, boxed, independent_start
from samplers.classical.anneal import ClassicalFrames, anneal, constant_temperature_frames
from samplers.classical.anneal_checkpoint import AnnealCheckpoint
from samplers.classical.classical import force_field_of
from samplers.initial.file_frames import FileFrames, frames_of_file
from samplers.initial.reference_plan import plan
from samplers.initial.stretch import movable_fragments, stretch_random_bonds


@dataclass(frozen=True, slots=True, eq=False)
class InitialFrames:
    """The frames that iteration 0 starts from. If clusters are cut from boxes, `train` and `test` are clusters.

    Attributes:
        train: Frames to label and train on.
        train_temperature_kelvin: Temperature of each training frame in K, NaN if unknown, shape (len(train),).
        train_stretched: Whether bonds of each training frame were stretched, shape (len(train),).
        test: Frames to label and never train on.
        test_temperature_kelvin: Temperature of each test frame in K, NaN if unknown, shape (len(test),).
        starts: Frames that MD may start from: frames of the simulated system, neither stretched nor cut.
        starts_temperature_kelvin: Temperature of each starting frame in K, NaN if unknown, shape (len(starts),).
        force_field: Origin of the frames: `MMFF94`, `UFF`, `reference`, or `file`.
        test_central: For each test frame, whether each of its N atoms belongs to the molecule around which the frame
            was cut, shape (N,); True for all atoms of a frame that was not cut. None if no mixture is cut.
    """

    train: tuple[Frame, ...]
    train_temperature_kelvin: FloatArray
    train_stretched: BoolArray
    test: tuple[Frame, ...]
    test_temperature_kelvin: FloatArray
    starts: tuple[Frame, ...]
    starts_temperature_kelvin: FloatArray
    force_field: str
    test_central: tuple[BoolArray, ...] | None = None


def initial_frames(
    system: System,
    config: InitialConfig,
    temperatures_kelvin: Sequence[float],
    *,
    base_dir: Path,
    seed: int,
    cluster: System | None = None,
    structures: Sequence[Frame] = (),
    elements: Mapping[str, str] | None = None,
    reference: Reference | None = None,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Progress = silent,
) -> InitialFrames:
    """Make the initial set (from an anneal, MD by the reference method, or a file) and an independent test set.

    The test set of an anneal or of MD comes from separate runs at each sampling temperature, from other packings; of a
    molecule on its own that was made from a SMILES, from other conformers. The test set of a file is spread evenly over
    the file. Only training frames are stretched, after they were cut.

    Args:
        system: The packed system.
        config: The `initial` section.
        temperatures_kelvin: Temperatures of the committee-driven MD, over which the test set is spread.
        base_dir: Folder that a relative path in `initial.file` starts from.
        seed: Seed of all randomness of the initial set.
        cluster: The cluster (`system.cluster_of`) that is cut from every box around a random molecule, to be labelled;
            None: whole frames are labelled.
        structures: Starting structures of the user, which join the initial set (`starting_structures`).
        elements: Elements by the file's names or types of atoms, for `source: file`.
        reference: The reference method, for `source: reference`.
        checkpoint: File in which an anneal or MD saves its state, and from which it resumes. A resumed run gives the
            same frames as an uninterrupted run. None: no state is saved.
        key: Key of the arguments above; a checkpoint with another key is ignored.
        progress: Called with the number of frames made so far and the number of all frames.

    Raises:
        InputError: If no classical force field describes the system, the MD diverges or gives too few sound frames, or
            the file is unusable, too short or has no frame that MD can start from.
        ValueError: If `source: reference` is chosen and `reference` is None.
    """
    if config.source == "file":
        found = _from_file(system, cluster or system, config, base_dir=base_dir, elements=elements)
    elif config.source == "reference":
        found = _from_reference(
            system,
            config,
            temperatures_kelvin,
            reference=reference,
            seed=seed,
            checkpoint=checkpoint,
            key=key,
            progress=progress,
        )
    else:
        found = _from_anneal(
            system, config, temperatures_kelvin, seed=seed, checkpoint=checkpoint, key=key, progress=progress
        )
    found = replace(
        found,
        train=(*found.train, *structures),
        train_temperature_kelvin=np.append(found.train_temperature_kelvin, [np.nan] * len(structures)),
        train_stretched=np.append(found.train_stretched, [False] * len(structures)),
    )
    if cluster is not None and cluster.cut is not None:
        found = _with_clusters_cut(found, system, cluster.cut, seed=seed)
    return _with_stretched_share(found, cluster or system, config, seed=seed, untouched=len(structures))


def _from_anneal(
    system: System,
    config: InitialConfig,
    temperatures_kelvin: Sequence[float],
    *,
    seed: int,
    checkpoint: Path | None,
    key: str,
    progress: Progress,
) -> InitialFrames:
    """Training frames from an anneal; test frames from a run at each temperature, each from another start structure."""
    shares = spread_evenly(config.test_frames, len(temperatures_kelvin))
    all_frames = config.frames + config.test_frames
    source = boxed(system, config.box_molecules, seed=derived_seed(seed, "box")) if config.box_molecules else system
    force_field = force_field_of(source)
    runs = AnnealCheckpoint(checkpoint, key=key, n_atoms=len(source.frame))

    def progress_after(frames_before: int) -> Progress:
        """Report the frames of a run as frames of the whole set."""

        def report(done: int, total: int, note: str = "") -> None:
            del total  # the number of frames of this run
            progress(frames_before + done, all_frames, note)

        return report

    train = anneal(
        source,
        hot_kelvin=config.hot_kelvin,
        cold_kelvin=config.cold_kelvin,
        duration_ps=config.duration_ps,
        frames=config.frames,
        timestep_fs=config.timestep_fs,
        seed=derived_seed(seed, "anneal"),
        start=runs.state("anneal"),
        save=runs.saver("anneal"),
        progress=progress_after(0),
    )
    test: list[ClassicalFrames] = []
    done = config.frames
    for index, (kelvin, share) in enumerate(zip(temperatures_kelvin, shares, strict=True)):
        if not share:
            continue
        start = source
        if not config.box_molecules:
            start = independent_start(source, seed=derived_seed(seed, "test packing", index))
        test.append(
            constant_temperature_frames(
                start,
                kelvin=kelvin,
                hot_kelvin=config.hot_kelvin,
                duration_ps=config.duration_ps / len(temperatures_kelvin),
                frames=share,
                timestep_fs=config.timestep_fs,
                seed=derived_seed(seed, "test", index),
                start=runs.state(f"test{index}"),
                save=runs.saver(f"test{index}"),
                progress=progress_after(done),
            )
        )
        done += share
    train_frames = _cut_to_system(train.frames, source, system)
    return InitialFrames(
        train=train_frames,
        train_temperature_kelvin=train.temperature_kelvin,
        train_stretched=np.zeros(config.frames, dtype=bool),
        test=_cut_to_system([frame for run in test for frame in run.frames], source, system),
        test_temperature_kelvin=np.concatenate([run.temperature_kelvin for run in test]),
        starts=train_frames,
        starts_temperature_kelvin=train.temperature_kelvin,
        force_field=force_field,
    )


def _from_reference(
    system: System,
    config: InitialConfig,
    temperatures_kelvin: Sequence[float],
    *,
    reference: Reference | None,
    seed: int,
    checkpoint: Path | None,
    key: str,
    progress: Progress,
) -> InitialFrames:
    """Training and test frames from MD by the reference method."""
    from samplers.initial.reference_md import reference_frames

    if reference is None:
        raise ValueError("`initial.source: reference` needs the argument `reference`")
    n_atoms = len(plan(config, temperatures_kelvin).kelvins) * len(system.frame)
    found = reference_frames(
        system,
        config,
        temperatures_kelvin,
        reference=reference,
        seed=derived_seed(seed, "reference"),
        checkpoint=AnnealCheckpoint(checkpoint, key=key, n_atoms=n_atoms),
        progress=progress,
    )
    return InitialFrames(
        train=found.train,
        train_temperature_kelvin=found.train_kelvin,
        train_stretched=np.zeros(config.frames, dtype=bool),
        test=found.test,
        test_temperature_kelvin=found.test_kelvin,
        starts=found.train,
        starts_temperature_kelvin=found.train_kelvin,
        force_field="reference",
    )


def _cut_to_system(frames: Sequence[Frame], source: System, system: System) -> tuple[Frame, ...]:
    """Turn frames of the annealed source into frames of the system: if the source is a box, cut a cluster from each."""
    if source is system:
        return tuple(frames)
    return tuple(
        nearest_molecules(
            frame,
            source.molecules.copy_of_atom,
            source.bonds.pairs,
            system.n_molecules,
            charge=system.frame.charge,
            unpaired_electrons=system.frame.unpaired_electrons,
        )[0]
        for frame in frames
    )


def _from_file(
    system: System, labelled: System, config: InitialConfig, *, base_dir: Path, elements: Mapping[str, str] | None
) -> InitialFrames:
    """Frames of the user's file; MD starts from those training frames that are frames of `system`."""
    frames = checked_file_frames(system, labelled, config, base_dir=base_dir, elements=elements).frames
    train, test = split_evenly(len(frames), config.frames, config.test_frames)
    starts = tuple(frames[i] for i in train if _is_frame_of(frames[i], system))
    return InitialFrames(
        train=tuple(frames[i] for i in train),
        train_temperature_kelvin=np.full(len(train), np.nan),
        train_stretched=np.zeros(config.frames, dtype=bool),
        test=tuple(frames[i] for i in test),
        test_temperature_kelvin=np.full(len(test), np.nan),
        starts=starts,
        starts_temperature_kelvin=np.full(len(starts), np.nan),
        force_field="file",
    )


def checked_file_frames(
    system: System, labelled: System, config: InitialConfig, *, base_dir: Path, elements: Mapping[str, str] | None
) -> FileFrames:
    """Read the user's frames, and check their number and that MD can start from some of the training frames.

    The arguments are those of `initial_frames`; `labelled` is the system whose frames are labelled: `system`, or a
    cluster cut from it.

    Raises:
        InputError: If the file is unusable, too short or has no frame that MD can start from.
    """
    if config.file is None:
        raise InputError("initial.file is missing; `initial.source: file` needs the path of the file with the frames")
    path = base_dir / config.file
    found = frames_of_file(path, system, labelled, elements=elements)
    wanted = config.frames + config.test_frames
    if len(found.frames) < wanted:
        raise InputError(
            f"{path} has too few frames, {len(found.frames)}; initial.frames ({config.frames}) and initial.test_frames "
            f"({config.test_frames}) ask for {wanted}: lower them"
        )
    train, _ = split_evenly(len(found.frames), config.frames, config.test_frames)
    if not any(_is_frame_of(found.frames[i], system) for i in train):
        raise InputError(
            f"{path}: MD cannot start from any of the initial set's frames; it starts from frames of the system, which "
            f"has {len(system.frame)} atoms {'in' if system.frame.is_periodic else 'without'} a periodic cell, in the "
            "order of `system`; add such frames, or change `system` to the molecules of the file"
        )
    return found


def starting_structures(
    system: System, file: str | None, *, base_dir: Path, elements: Mapping[str, str] | None = None
) -> FileFrames:
    """Read the user's starting structures of a system (`system.structures`), with atoms in the system's order.

    Args:
        system: The system.
        file: The file; None if there are no starting structures.
        base_dir: Folder that a relative path starts from.
        elements: Elements by the file's names or types of atoms.

    Raises:
        InputError: If the file is unusable, or a frame is not a structure of the system.
    """
    if file is None:
        return FileFrames((), ())
    path = base_dir / file
    found = frames_of_file(path, system, system, elements=elements)
    for index, frame in enumerate(found.frames):
        if not _is_frame_of(frame, system):
            raise InputError(
                f"system.structures: {path}, frame {index}, is no structure of the system, which has "
                f"{len(system.frame)} atoms {'in' if system.frame.is_periodic else 'without'} a periodic cell; the "
                "frame's elements, bonds or cell differ: correct or remove it"
            )
    return FileFrames(found.frames, (f"{path}: {len(found.frames)} starting structures", *found.notes))


def _is_frame_of(frame: Frame, system: System) -> bool:
    """Whether a frame has the atoms of a system in the system's order, and a cell if and only if the system has one."""
    return frame.is_periodic == system.frame.is_periodic and np.array_equal(frame.numbers, system.frame.numbers)


def spread_evenly(total: int, parts: int) -> list[int]:
    """Split a total into integer shares that differ by at most 1, the larger shares first."""
    return [total // parts + (index < total % parts) for index in range(parts)]


def split_evenly(available: int, train: int, test: int) -> tuple[IntArray, IntArray]:
    """Indices of the training frames and of the test frames of a file: disjoint, sorted, and each evenly spread."""
    test_indices = np.floor((np.arange(test) + 0.5) * available / test).astype(np.int64)
    others = np.setdiff1d(np.arange(available), test_indices)
    train_indices = others[np.floor((np.arange(train) + 0.5) * len(others) / train).astype(np.int64)]
    return train_indices, test_indices


def _with_clusters_cut(found: InitialFrames, system: System, cut: ClusterCut, *, seed: int) -> InitialFrames:
    """Cut a cluster around a random molecule from every training and test frame of the system."""
    n_molecules = int(cut.molecule_of_atom.max()) + 1

    def clusters_of(frames: Sequence[Frame], purpose: str) -> tuple[tuple[Frame, ...], tuple[BoolArray, ...]]:
        centres = derived_rng(seed, purpose).integers(n_molecules, size=len(frames)).tolist()
        clusters, central = [], []
        for frame, centre in zip(frames, centres, strict=True):
            if _is_frame_of(frame, system):
                cluster, atoms = cut.around(frame, centre)
                clusters.append(cluster)
                central.append(cut.molecule_of_atom[atoms] == centre)
            else:
                clusters.append(frame)
                central.append(np.ones(len(frame), dtype=bool))
        return tuple(clusters), tuple(central)

    train, _ = clusters_of(found.train, "cut train")
    test, central = clusters_of(found.test, "cut test")
    return replace(found, train=train, test=test, test_central=None if cut.electrons is None else central)


def _with_stretched_share(
    found: InitialFrames, system: System, config: InitialConfig, *, seed: int, untouched: int
) -> InitialFrames:
    """Stretch bonds in the configured share of the training frames, drawn at random from those with stretchable bonds.

    The last `untouched` frames are the user's starting structures, which stay as they are.
    """
    possible = len(found.train) - untouched
    wanted = round(config.stretch.share * possible)
    bonds = system.bonds.pairs
    fragments = movable_fragments(len(system.frame), bonds) if wanted else {}
    train, chosen = list(found.train), np.zeros(len(found.train), dtype=bool)
    for index in derived_rng(seed, "stretch").permutation(possible).tolist():
        if chosen.sum() == wanted or not fragments:  # no fragments: no bond can be stretched
            break
        if not np.array_equal(train[index].numbers, system.frame.numbers):
            continue  # a frame from a file may have other atoms, to which the system's bonds do not apply
        train[index], stretched = stretch_random_bonds(
            train[index],
            bonds,
            fragments,
            count=config.stretch.bonds,
            shortest_factor=config.stretch.shortest_factor,
            longest_factor=config.stretch.longest_factor,
            rng=derived_rng(seed, "stretch", index),
        )
        chosen[index] = bool(stretched)
    return replace(found, train=tuple(train), train_stretched=chosen)
