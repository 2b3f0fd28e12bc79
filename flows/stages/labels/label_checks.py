"""A check of labels while a campaign runs: their forces and stresses must be derivatives of their energies."""

from collections.abc import Sequence
from typing import Any

from al_engine.campaign.labels import LabelOutcome, LevelOfTheory
from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.protocols import Progress
from al_engine.structures.frames import Frame
from al_engine.units import GPA_PER_EV_PER_ANG3, MEV_PER_EV
from labelers.checks.force_check import ForceFault, check_forces
from labelers.checks.stress_check import is_wrong, stress_disagreement
from labelers.pool.cache import LabelCache
from labelers.pool.pool import LabelPool


def checked_forces(
    pool: LabelPool,
    outcomes: Sequence[LabelOutcome],
    config: LabelsConfig,
    level: LevelOfTheory,
    *,
    count: int,
    progress: Progress,
    cache: LabelCache | None,
) -> dict[str, Any] | None:
    """Compare the forces of some labels, spread evenly over a chunk, with finite differences of energies.

    Energies go through the cache, so that a killed process loses no energies of an expensive method.

    Returns:
        `frames`, the number of checked frames; `worst_mev_per_ang`, the largest disagreement; and `worst_stress_gpa`,
        if the first of these labels has a stress. None if no frame was to be checked.

    Raises:
        InputError: If a force or the stress is wrong; the message names the frame, the atom, both numbers and a remedy.
    """
    labels = [(index, outcome.labelled) for index, outcome in enumerate(outcomes) if outcome.labelled is not None]
    labels = labels[:: max(1, len(labels) // count)][:count] if count else []
    if not labels:
        return None
    n_done = 0

    def energies(frames: Sequence[Frame]) -> list[float | None]:
        nonlocal n_done
        found = {} if cache is None else cache.find(frames)
        missing = [index for index in range(len(frames)) if index not in found]

        def keep(_: int, outcome: LabelOutcome) -> None:
            nonlocal n_done
            n_done += 1
            progress(len(outcomes), len(outcomes), f"checking forces, {n_done} energies")
            if cache is not None:
                cache.keep([outcome])

        new = pool.label([frames[index] for index in missing], time_limit_s=config.time_limit_s, record=keep)
        found |= dict(zip(missing, new, strict=True))
        return [None if (label := found[k].labelled) is None else label.energy for k in range(len(frames))]

    tolerance = config.force_check.tolerance_mev_per_ang / MEV_PER_EV
    checks = check_forces([labelled for _, labelled in labels], energies, tolerance_ev_per_ang=tolerance)
    for (index, labelled), check in zip(labels, checks, strict=True):
        if check.fault is not None:
            raise InputError(_fault_text(check.fault, labelled.frame, level, frame_number=index + 1))
    done = [MEV_PER_EV * check.worst_ev_per_ang for check in checks if check.done]
    result = {"frames": len(done), "worst_mev_per_ang": round(max(done, default=0.0), 3)}
    index, first = next(((k, label) for k, label in labels if label.stress is not None), labels[0])
    stress = stress_disagreement(first, energies)
    if stress is None:
        return result
    if is_wrong(*stress):
        raise InputError(_stress_fault_text(*stress, level, frame_number=index + 1))
    return result | {"worst_stress_gpa": round(abs(stress[1]) * GPA_PER_EV_PER_ANG3, 4)}


def _stress_fault_text(component: float, disagreement: float, level: LevelOfTheory, *, frame_number: int) -> str:
    return (
        f"the stress of {level.method} by {level.backend} {level.backend_version} is not the derivative of its "
        f"energies. In frame {frame_number} of this chunk of labels, along a strain, it is "
        f"{component * GPA_PER_EV_PER_ANG3:.3f} GPa; the finite difference of the energy gives "
        f"{(component + disagreement) * GPA_PER_EV_PER_ANG3:.3f} GPa. Correct labels.ase_parameters, for example the "
        "basis set or its cut-off, or set labels.stress to false, and start a campaign in another directory"
    )


def _fault_text(fault: ForceFault, frame: Frame, level: LevelOfTheory, *, frame_number: int) -> str:
    from ase.data import chemical_symbols

    element, axis = chemical_symbols[frame.numbers[fault.atom]], "xyz"[fault.axis]
    remedy = (
        "the calculator must return the energy that its forces belong to (ASE's free_energy, if electrons are smeared) "
        "with a tight SCF and tight grids: correct labels.ase_parameters and start a campaign in another directory. If "
        "the method has such a difference, raise labels.force_check.tolerance_mev_per_ang and resume"
        if level.backend == "ase"
        else "set labels.backend to the other of tblite and xtb, and start a campaign in another directory"
    )
    return (
        f"the forces of {level.method} by {level.backend} {level.backend_version} are not the derivative of its "
        f"energies. In frame {frame_number} of this chunk of labels, atom {fault.atom} ({element}), the {axis} "
        f"component of the force is {fault.force_ev_per_ang:.4f} eV/Å; the finite difference of the energy gives "
        f"{fault.difference_ev_per_ang:.4f} eV/Å. Models trained on such labels are wrong: {remedy}"
    )


def force_check_text(check: dict[str, Any] | None) -> str:
    """The result of `checked_forces` for the end of a stage's summary; empty if no frame was checked."""
    if not check or not check["frames"]:
        return ""
    return (
        f", forces on {check['frames']} of them equal finite differences of energies within "
        f"{check['worst_mev_per_ang']:.1f} meV/Å"
        + (f", a stress within {check['worst_stress_gpa']:.2f} GPa" if "worst_stress_gpa" in check else "")
    )
