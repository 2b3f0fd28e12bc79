"""The initial training set, and the test set that is never trained on."""

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
from samplers.building.system import System, boxed, repacked
from samplers.classical.anneal import ClassicalFrames, anneal, constant_temperature_frames
from samplers.classical.anneal_checkpoint import AnnealCheckpoint
from samplers.classical.classical import force_field_of
from samplers.initial.file_frames import FileFrames, frames_of_file
from samplers.initial.reference_plan import plan
from samplers.initial.stretch import movable_fragments, stretch_random_bonds


@dataclass(frozen=True, slots=True, eq=False)
class InitialFrames:
    """The frames that iteration 0 starts from. Where clusters are cut from boxes, `train` and `test` are clusters.

    Attributes:
        train: Frames to label and train on.
        train_temperature_kelvin: Temperature of each training frame in K, NaN if unknown, shape (len(train),).
        train_stretched: Whether bonds of each training frame were stretched, shape (len(train),).
        test: Frames to label and never train on.
        test_temperature_kelvin: Temperature of each test frame in K, NaN if unknown, shape (len(test),).
        starts: Frames of the simulated system that MD may start from, neither stretched nor cut.
        starts_temperature_kelvin: Temperature of each starting frame in K, NaN if unknown, shape (len(starts),).
        force_field: Origin of the frames: `MMFF94`, `UFF`, `reference`, or `file`.
    """

    train: tuple[Frame, ...]
    train_temperature_kelvin: FloatArray
    train_stretched: BoolArray
    test: tuple[Frame, ...]
    test_temperature_kelvin: FloatArray
    starts: tuple[Frame, ...]
    starts_temperature_kelvin: FloatArray
    force_field: str


def initial_frames(
    system: System,
    config: InitialConfig,
    temperatures_kelvin: Sequence[float],
    *,
    base_dir: Path,
    seed: int,
    cluster: System | None = None,
    elements: Mapping[str, str] | None = None,
    reference: Reference | None = None,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Progress = silent,
) -> InitialFrames:
    """Make the initial set (from an anneal, MD by the reference method, or a file) and an independent test set.

    The test set of an anneal or of MD comes from separate runs at each sampling temperature, from other packings; the
    test set of a file is spread evenly over the file. Only training frames are stretched, after they were cut.

    Args:
        system: The packed system.
        config: The `initial` section.
        temperatures_kelvin: Temperatures of the committee-driven MD, over which the test set is spread.
        base_dir: The folder that a relative `initial.file` counts from.
        seed: Seed of all randomness of the initial set.
        cluster: The cluster (`system.cluster_of`) that is cut from every box around a random molecule, to be labelled;
            None: the frames are labelled as they are.
        elements: Elements by the file's names or types of atoms, for `source: file`.
        reference: The reference method, for `source: reference`.
        checkpoint: File in which an anneal or MD keeps its progress, and from which it goes on; an interrupted run
            gives the same frames as a run that was not interrupted. None: no progress is kept.
        key: Key of all arguments above: a checkpoint with another key is ignored.
        progress: Told how many frames are done, and how many there will be.

    Raises:
        InputError: If there is no classical force field, the anneal blows up, or the file is unusable, too short or
            has no frame that MD can start from.
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
    if cluster is not None:
        found = _with_clusters_cut(found, system, cluster, seed=seed)
    return _with_stretched_share(found, cluster or system, config, seed=seed)


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
    shares = spread_evenly(config.test_frames, len(temperatures_kelvin))
    all_frames = config.frames + config.test_frames
    source = boxed(system, config.box_molecules, seed=derived_seed(seed, "box")) if config.box_molecules else system
    force_field = force_field_of(source)
    runs = AnnealCheckpoint(checkpoint, key=key, n_atoms=len(source.frame))

    def tell(before: int) -> Progress:
        def report(done: int, total: int, note: str = "") -> None:
            del total  # the frames of this run alone
            progress(before + done, all_frames, note)

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
        progress=tell(0),
    )
    test: list[ClassicalFrames] = []
    done = config.frames
    for index, (kelvin, share) in enumerate(zip(temperatures_kelvin, shares, strict=True)):
        if not share:
            continue
        start = source if config.box_molecules else repacked(source, seed=derived_seed(seed, "test packing", index))
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
                progress=tell(done),
            )
        )
        done += share
    drawn = _as_system(train.frames, source, system)
    return InitialFrames(
        train=drawn,
        train_temperature_kelvin=train.temperature_kelvin,
        train_stretched=np.zeros(config.frames, dtype=bool),
        test=_as_system([frame for run in test for frame in run.frames], source, system),
        test_temperature_kelvin=np.concatenate([run.temperature_kelvin for run in test]),
        starts=drawn,
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
    from samplers.initial.reference_md import reference_frames

    if reference is None:
        raise ValueError("`source: reference` needs the reference method")
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


def _as_system(frames: Sequence[Frame], source: System, system: System) -> tuple[Frame, ...]:
    """Turn frames of the annealed source into frames of the system: clusters are cut if the source is a box."""
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
    frames = checked_file_frames(system, labelled, config, base_dir=base_dir, elements=elements).frames
    train, test = split_evenly(len(frames), config.frames, config.test_frames)
    starts = tuple(frames[i] for i in train if _is_of(frames[i], system))
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

    Raises:
        InputError: If the file is unusable, too short or has no frame that MD can start from.
    """
    if config.file is None:
        raise InputError("initial.file: `source: file` needs it")
    path = base_dir / config.file
    found = frames_of_file(path, system, labelled, elements=elements)
    wanted = config.frames + config.test_frames
    if len(found.frames) < wanted:
        raise InputError(
            f"{path} has too few frames, {len(found.frames)}; initial.frames ({config.frames}) and initial.test_frames "
            f"({config.test_frames}) ask for {wanted}: lower them"
        )
    train, _ = split_evenly(len(found.frames), config.frames, config.test_frames)
    if not any(_is_of(found.frames[i], system) for i in train):
        raise InputError(
            f"{path}: none of the frames of the initial set is of the system, {len(system.frame)} atoms "
            f"{'in' if system.frame.is_periodic else 'without'} a periodic cell in the order that `system` gives them: "
            "MD has nothing to start from; add such frames, or describe in `system` what the file holds"
        )
    return found


def _is_of(frame: Frame, system: System) -> bool:
    """Whether a frame has the atoms of a system, in a cell where the system has one."""
    return frame.is_periodic == system.frame.is_periodic and np.array_equal(frame.numbers, system.frame.numbers)


def spread_evenly(total: int, places: int) -> list[int]:
    """Split a total into integer shares that differ by at most 1, the larger shares first."""
    return [total // places + (place < total % places) for place in range(places)]


def split_evenly(available: int, train: int, test: int) -> tuple[IntArray, IntArray]:
    """Indices of training and test frames, each spread evenly over a file, disjoint and sorted."""
    test_indices = np.floor((np.arange(test) + 0.5) * available / test).astype(np.int64)
    others = np.setdiff1d(np.arange(available), test_indices)
    train_indices = others[np.floor((np.arange(train) + 0.5) * len(others) / train).astype(np.int64)]
    return train_indices, test_indices


def _with_clusters_cut(found: InitialFrames, system: System, cluster: System, *, seed: int) -> InitialFrames:
    """Cut a cluster around a random molecule from every training and test frame of the system."""
    cut = ClusterCut(
        molecules=cluster.n_molecules,
        charge=cluster.frame.charge,
        unpaired_electrons=cluster.frame.unpaired_electrons,
        molecule_of_atom=system.molecules.copy_of_atom,
        bonds=system.bonds.pairs,
    )

    def all_cut(frames: Sequence[Frame], purpose: str) -> tuple[Frame, ...]:
        centres = derived_rng(seed, purpose).integers(system.n_molecules, size=len(frames)).tolist()
        return tuple(
            cut.around(frame, centre)[0] if _is_of(frame, system) else frame
            for frame, centre in zip(frames, centres, strict=True)
        )

    return replace(found, train=all_cut(found.train, "cut train"), test=all_cut(found.test, "cut test"))


def _with_stretched_share(found: InitialFrames, system: System, config: InitialConfig, *, seed: int) -> InitialFrames:
    """Stretch bonds in the configured share of the training frames, drawn at random from the frames that allow it."""
    wanted = round(config.stretch.share * len(found.train))
    bonds = system.bonds.pairs
    fragments = movable_fragments(len(system.frame), bonds) if wanted else {}
    train, chosen = list(found.train), np.zeros(len(found.train), dtype=bool)
    for index in derived_rng(seed, "stretch").permutation(len(train)).tolist():
        if chosen.sum() == wanted or not fragments:
            break
        if not np.array_equal(train[index].numbers, system.frame.numbers):
            continue  # a frame of other atoms, from a file: the system's bonds are not its bonds
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
