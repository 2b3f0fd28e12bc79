"""The campaigns that are compared: a base campaign of moderate size, and variants that differ in a single option."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from al_engine.config import CampaignConfig, TrainingConfig
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import validate_config
from systems import ETHANOL

BASE = "warm start, one member drives"
EQUAL_COST: Mapping[str, Any] = {"training": {"updates_growth": 0.0}}
SCRATCH: Mapping[str, Any] = {"training": {"warm_start": False}}
STRETCHED_SHARE = 0.3
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    BASE: {},
    "from scratch": SCRATCH,
    "warm start, as many updates in each iteration": EQUAL_COST,
    "from scratch, as many updates in each iteration": merged(EQUAL_COST, SCRATCH),
    "the mean drives": {"sampling": {"driver": "mean"}},
    f"bonds stretched in {STRETCHED_SHARE:.0%} of the initial set": {
        "initial": {"stretch": {"share": STRETCHED_SHARE}}
    },
}
"""Changes to the config of the base campaign, by the name of the variant in the tables."""
WARM, DRIVER, STRETCHING = "Warm start or from scratch", "Who drives", "Bond stretching"
SECTIONS: Mapping[str, tuple[str, ...]] = {
    WARM: tuple(list(VARIANTS)[:4]),
    DRIVER: (BASE, "the mean drives"),
    STRETCHING: (BASE, list(VARIANTS)[-1]),
}
"""Variants that are compared with each other, by the title of the section."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of every campaign.

    Attributes:
        iterations: Number of iterations.
        frames: Frames of the initial set.
        anneal_ps: Length of the classical anneal from which the initial set is sampled.
        updates: Updates of each member in the first iteration.
        replicas: Replicas at each temperature.
        steps: MD steps of each replica in each iteration.
        max_labels: Largest number of labels of an iteration.
        stability_steps: Steps of the stability test.
        stability_replicas: Trajectories of the stability test.
        scan_points: Number of lengths to which each bond is stretched.
    """

    iterations: int = 5
    frames: int = 200
    anneal_ps: float = 10.0
    updates: int = 1000
    replicas: int = 8
    steps: int = 600
    max_labels: int = 100
    stability_steps: int = 10_000
    stability_replicas: int = 8
    scan_points: int = 24

    def as_dict(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


QUICK = Plan(
    iterations=2,
    frames=16,
    anneal_ps=0.5,
    updates=20,
    replicas=1,
    steps=40,
    max_labels=4,
    stability_steps=100,
    stability_replicas=2,
    scan_points=4,
)


def config(plan: Plan, changes: Mapping[str, Any], *, seed: int) -> CampaignConfig:
    """The config of a campaign, with the model, training and MD of the published tables.

    The model has no long path, which a single molecule does not need.
    """
    growth = TrainingConfig.model_fields["updates_growth"].default
    base = {
        "name": "trial",
        "seed": seed,
        "system": {"smiles": ETHANOL},
        "initial": {"frames": plan.frames, "test_frames": 4, "duration_ps": plan.anneal_ps},
        "model": {"kind": "mace", "long": None, "short": {"cutoff_ang": 5.0, "channels": 16, "radial_mlp": []}},
        "labels": {"backend": "tblite"},
        "training": {  # as in the published tables
            "optimizer": "adam",
            "batch_size": 10,
            "learning_rate": 0.007,
            "warm_learning_rate_factor": 0.5,
            "least_updates_share": 1.0,
            "validation_interval": 250,
            "updates": plan.updates,
            "updates_growth": growth,
        },
        "sampling": {
            "replicas": plan.replicas,
            "steps": plan.steps,
            "stride_steps": 20,
            "timestep_fs": 0.5,
            "cost_share": 0.0,
        },
        "selection": {"max_labels": plan.max_labels},
        "stop": {"acceptance": 1e-6},  # far from convergence, so that no iteration samples longer than another
        "execution": {"device": "cpu", "workers": 1},
    }
    return validate_config(merged(PRESETS["quick"], base, changes), source="benchmark")
