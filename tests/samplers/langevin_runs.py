"""Runs of Langevin dynamics whose settings are given in a row, so that a test can change a single one of them."""

from dataclasses import fields

from samplers.dynamics.langevin import run_langevin
from samplers.dynamics.settings import Integration, StopRules, Surroundings


def flat_run(committee, frames, **options):
    """`run_langevin` with the fields of `Integration`, `StopRules` and `Surroundings` among its options."""
    parts = {
        name: kind(**{field.name: options.pop(field.name) for field in fields(kind) if field.name in options})
        for name, kind in (("integration", Integration), ("stop", StopRules), ("surroundings", Surroundings))
    }
    return run_langevin(committee, frames, **parts, **options)
