"""Jobs of the compute workers: each reads parts by path, does one stage's work, and writes one part.

They import torch, RDKit or OpenMM inside, so that this module can be named without loading them.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.files.frames_hdf5 import write_frames
from al_engine.files.part_file import open_part, write_part
from al_engine.protocols import Progress
from al_engine.seeds import derived_seed
from al_engine.structures.frames import FloatArray, Frame

if TYPE_CHECKING:
    from models.inference.committee import Committee
    from models.ms_mace import MSMACE
    from models.storage.weights import TrainedMember


def initial_frames_job(*, directory: str, label_workers: int, path: str, key: str, progress: Progress) -> None:
    """Build the system and run the anneal or MD, going on from its checkpoint, or read the user's frames."""
    from labelers.checks.reference import ReferenceMethod
    from samplers.building.system import build_system, cluster_of
    from samplers.initial.initial import initial_frames
    from samplers.initial.reference_geometry import at_rest_by

    start = time.perf_counter()
    config = Ledger.open(Path(directory)).config
    base, checkpoint = Path(directory), Path(path).with_suffix(".checkpoint")
    seed = derived_seed(config.seed, "system")
    system = build_system(config.system, base_dir=base, seed=seed)
    with ExitStack() as stack:
        reference = None
        if config.initial.source == "reference":
            reference = stack.enter_context(
                ReferenceMethod(config.labels, periodic=system.frame.is_periodic, workers=label_workers)
            )
            system = at_rest_by(reference, system, config.system, seed=seed)
        count = config.selection.cut_molecules
        cluster = None if count is None else cluster_of(system, count)
        initial = initial_frames(
            system,
            config.initial,
            config.sampling.temperatures_kelvin,
            base_dir=base,
            seed=derived_seed(config.seed, "initial"),
            cluster=cluster,
            elements=config.system.elements,
            reference=reference,
            checkpoint=checkpoint,
            key=key,
            progress=progress,
        )
    with write_part(Path(path), kind=names.INITIAL_FRAMES, key=key) as root:
        write_frames(root.create_group("system"), [system.frame])
        if cluster is not None:
            write_frames(root.create_group("cluster"), [cluster.frame])
        root["bonds"] = system.bonds.pairs
        root["bond_lengths"] = system.bonds.lengths
        root["molecule_of_atom"] = system.molecules.copy_of_atom
        for name, frames, temperatures in (
            ("train", initial.train, initial.train_temperature_kelvin),
            ("test", initial.test, initial.test_temperature_kelvin),
            ("starts", initial.starts, initial.starts_temperature_kelvin),
        ):
            write_frames(root.create_group(name), frames)
            root[name]["temperature_kelvin"] = np.asarray(temperatures, dtype="<f8")
        root["train"]["stretched"] = initial.train_stretched
        root.attrs["force_field"] = initial.force_field
        root.attrs["seconds"] = time.perf_counter() - start
    checkpoint.unlink(missing_ok=True)


def train_job(
    *, directory: str, iteration: int, members: Sequence[tuple[int, str, str]], device: str, progress: Progress
) -> None:
    """Train members on the data set before an iteration, side by side if there are several; resumes from checkpoints.

    Args:
        directory: The campaign directory.
        iteration: The iteration.
        members: Number of each member, and path and key of its part.
        device: `cpu` or `cuda`.
        progress: Told how many updates are done.
    """
    from models.storage.weights import write_member
    from models.training.training import MemberTask, train_members

    start = time.perf_counter()
    ledger = Ledger.open(Path(directory))
    config = ledger.config
    tasks = [
        MemberTask(
            seed=derived_seed(config.seed, "train", iteration, member),
            start=_start(ledger, iteration, member),
            checkpoint=Path(path).with_suffix(".checkpoint"),
            key=key,
        )
        for member, path, key in members
    ]
    trained = train_members(
        frames=ledger.dataset(before=iteration),
        model=config.model,
        training=config.training,
        tasks=tasks,
        updates=names.updates(config.training, iteration),
        device=device,
        kernels=config.execution.acceleration != "off",
        progress=progress,
    )
    seconds = (time.perf_counter() - start) / len(members)
    for (member, path, key), result in zip(members, trained, strict=True):
        with write_part(Path(path), kind=names.member(iteration, member), key=key) as root:
            write_member(root.create_group("member"), result)
            root.attrs["seconds"] = seconds
        Path(path).with_suffix(".checkpoint").unlink(missing_ok=True)


def _start(ledger: Ledger, iteration: int, member: int) -> "TrainedMember | None":
    """What a member's training starts from: the iteration before, the models the config names, or nothing."""
    from models.training.start import read_start

    training = ledger.config.training
    if training.warm_start and iteration > 0:
        return _read_member(ledger.part_path(names.member(iteration - 1, member)))
    return None if training.start is None else read_start(ledger.directory / training.start, member)


def _read_member(path: Path) -> "TrainedMember":
    from models.storage.weights import read_member

    with open_part(path) as root:
        return read_member(root["member"])


def load_committee(
    ledger: Ledger, iteration: int, device: str, *, evaluations: int, members: int | None = None
) -> "Committee":
    """The committee of an iteration, or so many of its members; `evaluations` are how many are planned."""
    from models.inference.committee import Committee

    count = ledger.config.training.members if members is None else members
    paths = [ledger.part_path(names.member(iteration, member)) for member in range(count)]
    return Committee(
        [_read_member(path).model for path in paths],
        device=device,
        acceleration=ledger.config.execution.acceleration,
        evaluations=evaluations,
    )


def sample_job(
    *,
    directory: str,
    iteration: int,
    temperature_index: int,
    steps: int,
    device: str,
    path: str,
    key: str,
    progress: Progress,
) -> None:
    """Run the replicas of one temperature and record their frames, deviations and ends."""
    from flows.stages.sampling import sample_temperature

    start = time.perf_counter()
    ledger = Ledger.open(Path(directory))
    temperature = ledger.config.sampling.temperatures_kelvin[temperature_index]
    committee = load_committee(ledger, iteration, device, evaluations=steps)
    with write_part(Path(path), kind=names.sample(iteration, temperature), key=key, streamed=True) as root:
        sample_temperature(
            root,
            ledger,
            committee,
            iteration=iteration,
            temperature_index=temperature_index,
            steps=steps,
            progress=progress,
        )
        root.attrs["seconds"] = time.perf_counter() - start


def select_job(*, directory: str, iteration: int, device: str, path: str, key: str, progress: Progress) -> None:
    """Decide every sampled frame's fate, and choose what is labelled."""
    from flows.stages.selecting import select_frames

    @cache
    def member() -> "MSMACE":
        return load_committee(ledger, iteration, device, evaluations=0, members=1).models[0]

    def describe(frames: Sequence[Frame]) -> Iterator[FloatArray]:
        from models.inference.descriptors import atom_descriptors

        return atom_descriptors(member(), frames, progress=progress)

    start = time.perf_counter()
    ledger = Ledger.open(Path(directory))
    selection = select_frames(ledger, iteration, describe=describe)
    with write_part(Path(path), kind=names.selection(iteration), key=key) as root:
        selection.write(root)
        root.attrs["seconds"] = time.perf_counter() - start


def evaluate_job(*, directory: str, iteration: int, device: str, path: str, key: str, progress: Progress) -> None:
    """Score the committee on the test set, and on the new labels before any model is trained on them."""
    from al_engine.campaign.scores import read_new, read_test
    from flows.stages.scoring import write_scores

    start = time.perf_counter()
    ledger = Ledger.open(Path(directory))
    committee = load_committee(ledger, iteration, device, evaluations=0)
    groups = {"test": read_test(ledger), "new": read_new(ledger, iteration)}
    with write_part(Path(path), kind=names.evaluation(iteration), key=key) as root:
        for done, (name, labelled) in enumerate(groups.items()):
            write_scores(root.create_group(name), committee, labelled)
            progress(done + 1, len(groups))
        root.attrs["seconds"] = time.perf_counter() - start
