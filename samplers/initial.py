"""The initial training set and the test set that is put aside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from al_engine.config import InitialConfig
from al_engine.errors import InputError
from al_engine.frames import FloatArray, Frame, IntArray
from al_engine.protocols import Progress, silent
from al_engine.seeds import derived_rng, derived_seed
from samplers.anneal import ClassicalFrames, anneal, constant_temperature_frames
from samplers.charge_spin import resolve_charge_and_spin
from samplers.classical import force_field_of
from samplers.crop import nearest_molecules
from samplers.molecules import check_elements
from samplers.stretch import stretch_random_bond
from samplers.structure_files import read_frames
from samplers.system import System, boxed, repacked


@dataclass(frozen=True, slots=True, eq=False)
class InitialFrames:
    """What iteration 0 starts from.

    Attributes:
        train: Frames to label and train on.
        train_temperature_kelvin: Temperature each was drawn at, NaN where unknown, shape (len(train),).
        test: Frames to label and never select from.
        test_temperature_kelvin: Temperature each was drawn at, NaN where unknown, shape (len(test),).
        force_field: What drew them: `MMFF94`, `UFF`, or `file`.
    """

    train: tuple[Frame, ...]
    train_temperature_kelvin: FloatArray
    test: tuple[Frame, ...]
    test_temperature_kelvin: FloatArray
    force_field: str


def initial_frames(
    system: System,
    config: InitialConfig,
    temperatures_kelvin: Sequence[float],
    *,
    base_dir: Path,
    seed: int,
    progress: Progress = silent,
) -> InitialFrames:
    """The initial set (an anneal, or a file's frames) and a test set independent of it.

    The test set of an anneal comes from separate runs at each sampling temperature, from other packings; that of a
    file is spread evenly over it. Only training frames are ever stretched.

    Args:
        system: The packed system.
        config: The `initial` section.
        temperatures_kelvin: Temperatures of the committee-driven MD, over which the test set is spread.
        base_dir: The folder that a relative `initial.file` counts from.
        seed: Seed of all randomness here.
        progress: Told how many of all frames are done.

    Raises:
        InputError: If there is no classical force field, the anneal blows up, or the file is unusable or too short.
    """
    if config.source == "file":
        found = _from_file(system, config, base_dir=base_dir)
    else:
        found = _from_anneal(system, config, temperatures_kelvin, seed=seed, progress=progress)
    stretched = _stretch_share(found.train, system.bonds.pairs, config, seed=seed)
    return InitialFrames(
        train=stretched,
        train_temperature_kelvin=found.train_temperature_kelvin,
        test=found.test,
        test_temperature_kelvin=found.test_temperature_kelvin,
        force_field=found.force_field,
    )


def _from_anneal(
    system: System, config: InitialConfig, temperatures_kelvin: Sequence[float], *, seed: int, progress: Progress
) -> InitialFrames:
    shares = spread_evenly(config.test_frames, len(temperatures_kelvin))
    all_frames = config.frames + config.test_frames
    source = boxed(system, config.box_molecules, seed=derived_seed(seed, "box")) if config.box_molecules else system
    force_field = force_field_of(source)

    def tell(before: int) -> Progress:
        def report(done: int, total: int, note: str = "") -> None:
            del total  # of this run alone
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
                progress=tell(done),
            )
        )
        done += share
    return InitialFrames(
        train=_as_system(train.frames, source, system),
        train_temperature_kelvin=train.temperature_kelvin,
        test=_as_system([frame for run in test for frame in run.frames], source, system),
        test_temperature_kelvin=np.concatenate([run.temperature_kelvin for run in test]),
        force_field=force_field,
    )


def _as_system(frames: Sequence[Frame], source: System, system: System) -> tuple[Frame, ...]:
    """Frames of the annealed source as frames of the system: cut from the box if the source is one."""
    if source is system:
        return tuple(frames)
    return tuple(
        nearest_molecules(
            frame,
            source.molecule_of_atom,
            source.bonds.pairs,
            system.n_molecules,
            charge=system.frame.charge,
            unpaired_electrons=system.frame.unpaired_electrons,
        )[0]
        for frame in frames
    )


def _from_file(system: System, config: InitialConfig, *, base_dir: Path) -> InitialFrames:
    if config.file is None:
        raise InputError("initial.file: `source: file` needs it")
    path = base_dir / config.file
    frames = read_frames(path)
    wanted = config.frames + config.test_frames
    if len(frames) < wanted:
        raise InputError(
            f"{path} has {len(frames)} frames; initial.frames ({config.frames}) and initial.test_frames "
            f"({config.test_frames}) ask for {wanted}: lower them"
        )
    checked = [_of_system(frame, system, f"{path}, frame {index}") for index, frame in enumerate(frames)]
    train, test = split_evenly(len(frames), config.frames, config.test_frames)
    return InitialFrames(
        train=tuple(checked[i] for i in train),
        train_temperature_kelvin=np.full(len(train), np.nan),
        test=tuple(checked[i] for i in test),
        test_temperature_kelvin=np.full(len(test), np.nan),
        force_field="file",
    )


def _of_system(frame: Frame, system: System, where: str) -> Frame:
    """A file's frame with the system's charge and spin where it is the system's, else its own."""
    check_elements(frame.numbers, where)
    if np.array_equal(frame.numbers, system.frame.numbers):
        charge, unpaired = system.frame.charge, system.frame.unpaired_electrons
    else:
        charge, unpaired = resolve_charge_and_spin(
            numbers=frame.numbers,
            molecules=1,
            charge=frame.charge,
            unpaired_electrons=frame.unpaired_electrons,
            source=where,
        )
    return Frame(
        numbers=frame.numbers,
        positions=frame.positions,
        cell=frame.cell,
        pbc=frame.pbc,
        charge=charge,
        unpaired_electrons=unpaired,
    )


def spread_evenly(total: int, places: int) -> list[int]:
    """`total` things over some places, as evenly as can be, the first places getting what is left over."""
    return [total // places + (place < total % places) for place in range(places)]


def split_evenly(available: int, train: int, test: int) -> tuple[IntArray, IntArray]:
    """Indices of training and test frames, each spread evenly over a file, disjoint and sorted."""
    test_indices = np.floor((np.arange(test) + 0.5) * available / test).astype(np.int64)
    others = np.setdiff1d(np.arange(available), test_indices)
    train_indices = others[np.floor((np.arange(train) + 0.5) * len(others) / train).astype(np.int64)]
    return train_indices, test_indices


def _stretch_share(
    frames: tuple[Frame, ...], bonds: IntArray, config: InitialConfig, *, seed: int
) -> tuple[Frame, ...]:
    """Stretch one bond in the configured share of the frames, drawn by lot."""
    count = round(config.stretch.share * len(frames))
    rng = derived_rng(seed, "stretch")
    chosen = set(rng.permutation(len(frames))[:count].tolist())
    n_atoms = 1 + int(bonds.max()) if len(bonds) else 0
    return tuple(
        stretch_random_bond(
            frame,
            bonds,
            shortest_factor=config.stretch.shortest_factor,
            longest_factor=config.stretch.longest_factor,
            rng=rng,
        )
        if index in chosen and len(frame) >= n_atoms
        else frame
        for index, frame in enumerate(frames)
    )
