"""The stages of a campaign as plain methods: what each reads, its key, and the one part it writes.

Nothing here knows Prefect. Every stage is safe to run twice: a finished part is taken as it is.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.labels import LevelOfTheory, read_labels
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import Part
from al_engine.campaign.record import write_iteration
from al_engine.campaign.samples import COMPLETED, sampled_steps, trusted_mev_per_ang
from al_engine.files.frames_hdf5 import read_frames, write_labelled
from al_engine.files.part_file import open_part
from al_engine.protocols import Progress, silent
from al_engine.seeds import derived_seed
from al_engine.selection.fates import CANDIDATE_FATES, Fate, count, count_fates
from al_engine.units import MEV_PER_EV
from al_engine.verdict.evidence import sampling_steps
from al_engine.verdict.verdict import Verdict, judge
from flows.compute.local import ComputePool
from flows.stages import jobs
from flows.stages.input_files import input_file_hashes
from flows.stages.label_checks import force_check_text
from flows.stages.labelling import (
    chunks,
    frames_to_label,
    level_to_go_on_with,
    refuse_failed_initial_set,
    refuse_mixed_charges,
    write_label_part,
)
from labelers.pool.cache import LabelCache
from labelers.pool.pool import LabelPool
from models.storage.member_files import members_hash


class Campaign:
    """A campaign's stages over its ledger and two pools of workers.

    Args:
        ledger: The campaign directory, begun and locked by this process.
        compute: Workers that train and sample.
        label_pool: Workers that label.
        label_workers: How many a job may start for labels of its own.
        level: What the labels are.
        device: `cpu` or `cuda`.
        cache: Labels there are already, of other campaigns too.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        compute: ComputePool,
        label_pool: LabelPool,
        label_workers: int = 1,
        level: LevelOfTheory,
        device: str,
        cache: LabelCache | None = None,
    ) -> None:
        self.ledger = ledger
        self.config = ledger.config
        self.level = level
        self._compute, self._label_pool, self._device = compute, label_pool, device
        self._cache, self._label_workers = cache, label_workers

    @property
    def workers(self) -> int:
        """How many members or temperatures are computed side by side."""
        return self._compute.workers

    # -- the initial set ----------------------------------------------------------------------------------------

    def initial_frames(self, progress: Progress = silent) -> str:
        """Build the system and make the initial and test frames."""
        config = self.config
        inputs: dict[str, Any] = {
            "system": config.system.key_values(),
            "initial": config.initial.key_values(),
            "cut_molecules": config.selection.cut_molecules,
            "temperatures": config.sampling.temperatures_kelvin,
            "files": input_file_hashes(self.ledger),
            "seed": config.seed,
        }
        if config.initial.source == "reference":
            inputs["level"] = self.level.fingerprint()
        part = self._in_worker(
            names.INITIAL_FRAMES, jobs.initial_frames_job, inputs, [], progress, label_workers=self._label_workers
        )
        with open_part(part.path) as root:
            n_train, n_test = len(root["train/n_atoms"]), len(root["test/n_atoms"])
            field = root.attrs["force_field"]
            atoms = int(root["system/n_atoms"][0])
            cut = f", cut to clusters of {root['cluster/n_atoms'][0]}" if "cluster" in root else ""
            system = read_frames(root["cluster" if cut else "system"])
        refuse_mixed_charges(system + frames_to_label(self.ledger, None), config.labels)
        return f"{n_train} initial and {n_test} test frames of {atoms} atoms by {field}{cut}"

    def initial_chunks(self) -> list[tuple[int, int]]:
        """Ranges of the initial and test frames that are labelled together, counted from 1."""
        return chunks(len(frames_to_label(self.ledger, None)), self.config.labels.chunk_frames)

    def assemble(self) -> str:
        """Put the labelled initial frames together: the data set of iteration 0, and the test set.

        Raises:
            InputError: If too many labels failed for a campaign to make sense.
        """
        frames_part = self._part(names.INITIAL_FRAMES)
        label_paths = self.ledger.label_parts(None)
        labels = read_labels(label_paths)
        with open_part(frames_part.path) as root:
            n_train, test_kelvin = len(root["train/n_atoms"]), root["test/temperature_kelvin"][()]
        train = [item for index, item in labels.labelled.items() if index < n_train]
        test = [item for index, item in labels.labelled.items() if index >= n_train]
        refuse_failed_initial_set(labels, self.ledger, n_train=len(train), n_test=len(test))

        def fill(root: h5py.File) -> None:
            write_labelled(root.create_group("labelled"), train)
            write_labelled(root.create_group("test"), test)
            root["test/temperature_kelvin"] = test_kelvin[[i - n_train for i in labels.labelled if i >= n_train]]
            root.attrs["label_failures"] = labels.failures

        parents = [frames_part, *(self._part(path.stem) for path in label_paths)]
        self._here(names.INITIAL_DATASET, {}, parents, fill)
        words = f" ({labels.failure_words()})" if labels.failures else ""
        return f"{len(train)} labelled initial frames, {len(test)} test frames, {labels.failures} failed labels{words}"

    # -- an iteration -------------------------------------------------------------------------------------------

    def train(self, iteration: int, members: Sequence[int], progress: Progress = silent) -> str:
        """Train members on everything labelled before the iteration, in one worker; several side by side."""
        stages = {member: (names.member(iteration, member), *self._training(iteration, member)) for member in members}

        def compute(_path: Path, _key: str) -> None:
            """Train all that are missing, whichever of them is asked for first."""
            missing = [
                (member, str(self.ledger.part_path(name)), self.ledger.key(name, inputs=inputs, parents=parents))
                for member, (name, inputs, parents) in stages.items()
                if not self.ledger.part_path(name).exists()
            ]
            self._compute.run(
                jobs.train_job,
                progress=progress,
                directory=str(self.ledger.directory),
                iteration=iteration,
                members=missing,
                device=self._device,
            )

        parts = [
            self.ledger.stage(name, inputs=inputs, parents=parents, compute=compute)
            for name, inputs, parents in stages.values()
        ]
        updates, errors = [], []
        for part in parts:
            with open_part(part.path) as root:
                history = root["member/history"]
                updates.append(f"{history['updates'][-1]:.0f}")
                errors.append(f"{MEV_PER_EV * history['validation_force_mae'][()].min():.1f}")
        seconds = sum(part.seconds for part in parts)
        return f"{', '.join(updates)} updates, validation force MAE {', '.join(errors)} meV/Å, {seconds:.0f} s"

    def training_groups(self) -> list[list[int]]:
        """Members that are trained in one worker: all on a GPU, where four cost little more than one; else each."""
        members = list(range(self.config.training.members))
        return [members] if self._device == "cuda" else [[member] for member in members]

    def _training(self, iteration: int, member: int) -> tuple[dict[str, Any], list[Part]]:
        """Inputs and parents of a member's training."""
        config = self.config
        inputs = {
            "model": config.model.model_dump(mode="json"),
            "training": config.training.model_dump(mode="json", exclude={"start"}),  # its content counts, not its name
            "updates": names.updates(config.training, iteration),
            "seed": derived_seed(config.seed, "train", iteration, member),
        }
        parents = self._dataset_before(iteration)
        if iteration > 0 and config.training.warm_start:
            parents.append(self._part(names.member(iteration - 1, member)))
        elif config.training.start is not None:
            inputs["start"] = members_hash(self.ledger.directory / config.training.start)
        return inputs, parents

    def sample(self, iteration: int, temperature_index: int, progress: Progress = silent) -> str:
        """Run the replicas of one temperature."""
        config, sampling = self.config, self.config.sampling
        temperature = sampling.temperatures_kelvin[temperature_index]
        steps = self._planned_steps(iteration)
        inputs = {
            "sampling": sampling.model_dump(mode="json"),
            "trusted": [config.selection.deviation, trusted_mev_per_ang(self.ledger, iteration)],
            "steps": steps,
            "temperature_index": temperature_index,
            "seed": derived_seed(config.seed, "sample", iteration, temperature_index),
        }
        parents = [self._part(names.INITIAL_FRAMES), *self._members(iteration)]
        if iteration > 0:
            parents += self._starts_from(iteration - 1, temperature)
        part = self._in_worker(
            names.sample(iteration, temperature),
            jobs.sample_job,
            inputs,
            parents,
            progress,
            iteration=iteration,
            temperature_index=temperature_index,
            steps=steps,
            device=self._device,
        )
        with open_part(part.path) as root:
            deviation = root["deviation_norm"][()]
            stopped = int(np.sum(root["stop_reason"][()] != COMPLETED))
        typical = MEV_PER_EV * float(np.median(deviation)) if len(deviation) else float("nan")
        return f"{len(deviation)} frames, median deviation {typical:.0f} meV/Å, trajectories stopped: {stopped}"

    def _starts_from(self, iteration: int, temperature: float) -> list[Part]:
        """What says where the trajectories of the next iteration start."""
        if self.config.sampling.start == "continue":
            return [self._part(names.sample(iteration, temperature))]
        return [
            *self._samples(iteration),
            self._part(names.selection(iteration)),
            self._part(names.append(iteration)),
        ]

    def _planned_steps(self, iteration: int) -> int:
        """MD steps of each replica; of an iteration that has been sampled, those: the rules may have changed since."""
        for part in (self.ledger.part_path(names.sample(iteration, k)) for k in self._kelvins):
            if part.exists():
                return sampled_steps(part)
        return sampling_steps(self.ledger.history()[:iteration], self.config.sampling, self.config.stop)

    def select(self, iteration: int, progress: Progress = silent) -> str:
        """Decide every sampled frame's fate and choose the frames to label."""
        config = self.config.selection
        looked_back = config.adaptive.iterations if config.adaptive.enabled else 1
        sampled = range(max(0, iteration + 1 - looked_back), iteration + 1)
        part = self._in_worker(
            names.selection(iteration),
            jobs.select_job,
            {"selection": config.model_dump(mode="json"), "seed": self.config.seed, "iteration": iteration},
            [
                self._part(names.INITIAL_FRAMES),
                *(part for k in sampled for part in self._samples(k)),
                *self._dataset_before(iteration),
                *(self._part(names.selection(k)) for k in range(iteration)),
                self._part(names.member(iteration, 0)),
            ],
            progress,
            iteration=iteration,
            device=self._device,
        )
        with open_part(part.path) as root:
            fates, chosen = root["fate"][()], len(root["chosen"])
        counts = count(fates)
        left_out = count_fates(fates[np.isin(fates, CANDIDATE_FATES) & (fates != Fate.LABELLED)])
        reasons = ", ".join(f"{name} {number}" for name, number in left_out.items())
        summary = f"{chosen} of {counts.candidate} candidates among {counts.sampled} frames chosen"
        return f"{summary} ({reasons})" if reasons else summary

    def chunks(self, iteration: int) -> list[tuple[int, int]]:
        """Ranges of an iteration's chosen frames that are labelled together, counted from 1."""
        return chunks(len(frames_to_label(self.ledger, iteration)), self.config.labels.chunk_frames)

    def label(self, iteration: int | None, first: int, last: int, progress: Progress = silent) -> str:
        """Label the frames `first` to `last` (counted from 1); iteration None: of the initial set."""
        frames = frames_to_label(self.ledger, iteration)[first - 1 : last]
        source = names.INITIAL_FRAMES if iteration is None else names.selection(iteration)
        name = names.labels(iteration, first, last)
        settings = self.config.labels
        inputs = {
            "level": self.level.fingerprint(),
            "max_force_ev_per_ang": settings.max_force_ev_per_ang,
            "min_distance_ang": self.config.selection.min_distance_ang,
            "min_contact_factor": self.config.selection.min_contact_factor,
            "range": [first, last],
        }
        checked = settings.force_check.frames if first == 1 else 0
        if iteration is not None:
            checked = min(checked, 1)

        def compute(path: Path, key: str) -> None:
            write_label_part(
                path,
                key,
                self._label_pool,
                frames,
                config=settings,
                level=self.level,
                min_distance_ang=self.config.selection.min_distance_ang,
                min_contact_factor=self.config.selection.min_contact_factor,
                progress=progress,
                cache=self._cache,
                checked_frames=checked,
            )

        part = self.ledger.stage(name, inputs=inputs, parents=[self._part(source)], compute=compute)
        labels = read_labels([part.path])
        with open_part(part.path) as root:
            check = force_check_text(json.loads(root.attrs.get("force_check", "null")))
        rate = f", {60 * len(frames) / part.seconds:.0f}/min" if part.seconds > 0 else ""
        words = f" ({labels.failure_words()})" if labels.failures else ""
        return f"{len(labels.labelled)} labels, {labels.failures} failed{words}{rate}{check}"

    def evaluate(self, iteration: int, progress: Progress = silent) -> str:
        """Score the committee on the test set and on the new labels it chose."""
        labels = [self._part(path.stem) for path in self.ledger.label_parts(iteration)]
        selection = self._part(names.selection(iteration))
        part = self._in_worker(
            names.evaluation(iteration),
            jobs.evaluate_job,
            {},
            [self._part(names.INITIAL_DATASET), *self._members(iteration), selection, *labels],
            progress,
            iteration=iteration,
            device=self._device,
        )
        with open_part(part.path) as root:
            test = root["test"].attrs
            return (
                f"test set: forces {test['force_mae_mev_per_ang']:.1f} meV/Å, "
                f"energy {test['energy_mae_mev_per_atom']:.2f} meV/atom"
            )

    def append(self, iteration: int, seconds: float = 0.0) -> str:
        """Add the new labels to the data set, and write down what happened.

        Args:
            iteration: The iteration.
            seconds: Time on the clock since the iteration was started or resumed; kept for the reader.
        """
        parents = [
            *self._dataset_before(iteration),
            self._part(names.selection(iteration)),
            *(self._part(path.stem) for path in self.ledger.label_parts(iteration)),
            self._part(names.evaluation(iteration)),
        ]
        fill = partial(write_iteration, self.ledger, iteration, seconds)
        self._here(names.append(iteration), {}, parents, fill)
        record = self.ledger.history()[iteration]
        return f"{record.labelled} new labels, {record.dataset_size} in all, acceptance {record.counts.acceptance:.2%}"

    def abandon(self) -> None:
        """Kill all workers at once: what they had in hand is lost, what is finished is on disk."""
        self._compute.kill()
        self._label_pool.close()

    def judge(self, iterations: int) -> Verdict | None:
        """The verdict after so many iterations, written down if there is one; None to go on."""
        history = self.ledger.history()[:iterations]
        verdict = judge(
            history,
            self.config.stop,
            max_failed_share=self.config.labels.max_failed_share,
            lower_mev_per_ang=self.config.selection.lower_mev_per_ang,
        )
        if verdict is not None:
            self.ledger.write_index(verdict)
        return verdict

    # -- parts --------------------------------------------------------------------------------------------------

    def refuse_other_level(self) -> None:
        """Refuse to go on with labels that would not match the campaign's; take over its level in an earlier form.

        Raises:
            InputError: Naming both levels of theory.
        """
        self.level = level_to_go_on_with(self.ledger, self.level)

    def _part(self, name: str) -> Part:
        return Part.load(self.ledger.part_path(name))

    def _members(self, iteration: int) -> list[Part]:
        return [self._part(names.member(iteration, member)) for member in range(self.config.training.members)]

    @property
    def _kelvins(self) -> list[float]:
        return self.config.sampling.temperatures_kelvin

    def _samples(self, iteration: int) -> list[Part]:
        return [self._part(names.sample(iteration, kelvin)) for kelvin in self._kelvins]

    def _dataset_before(self, iteration: int) -> list[Part]:
        return [self._part(names.INITIAL_DATASET), *(self._part(names.append(k)) for k in range(iteration))]

    def _here(self, name: str, inputs: dict[str, Any], parents: Sequence[Part], fill: Any) -> Part:
        return self.ledger.stage(name, inputs=inputs, parents=parents, compute=self.ledger.write(name, fill))

    def _in_worker(
        self,
        name: str,
        job: Any,
        inputs: dict[str, Any],
        parents: Sequence[Part],
        progress: Progress,
        **arguments: Any,
    ) -> Part:
        def compute(path: Path, key: str) -> None:
            self._compute.run(
                job, progress=progress, directory=str(self.ledger.directory), path=str(path), key=key, **arguments
            )

        return self.ledger.stage(name, inputs=inputs, parents=parents, compute=compute)
