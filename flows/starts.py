"""Where the trajectories of an iteration start."""

import numpy as np

from al_engine.frame_io import read_frames
from al_engine.frames import Frame
from al_engine.ledger import Ledger
from al_engine.parts import open_part
from al_engine.seeds import derived_rng
from flows import names
from flows.sampled import COMPLETED


def starting_frames(ledger: Ledger, *, iteration: int, temperature_kelvin: float) -> list[Frame]:
    """One frame per replica: where the last iteration's trajectory ended, or an initial frame.

    A trajectory that was stopped is not continued; its replica starts afresh from an initial frame. Initial frames
    are drawn from the half whose anneal temperature is nearest.
    """
    replicas = ledger.config.sampling.replicas
    rng = derived_rng(ledger.config.seed, "start", iteration, round(1000 * temperature_kelvin))
    fresh = _near_initial_frames(ledger, temperature_kelvin)
    drawn = [fresh[index] for index in rng.choice(len(fresh), size=replicas, replace=len(fresh) < replicas)]
    if iteration == 0:
        return drawn
    with open_part(ledger.part_path(names.sample(iteration - 1, temperature_kelvin))) as root:
        final, reasons = read_frames(root["final"]), root["stop_reason"][()]
    return [last if reason == COMPLETED else new for last, reason, new in zip(final, reasons, drawn, strict=True)]


def _near_initial_frames(ledger: Ledger, temperature_kelvin: float) -> list[Frame]:
    with open_part(ledger.part_path(names.INITIAL_FRAMES)) as root:
        frames = read_frames(root["train"])
        temperatures = root["train"]["temperature_kelvin"][()]
        stretched = root["train"]["stretched"][()]
    distance = np.where(np.isfinite(temperatures), np.abs(temperatures - temperature_kelvin), 0.0)
    usable = [int(index) for index in np.argsort(distance, kind="stable") if not stretched[index]]
    usable = usable or list(range(len(frames)))  # everything stretched: better than nothing
    return [frames[index] for index in usable[: max(1, (len(usable) + 1) // 2)]]
