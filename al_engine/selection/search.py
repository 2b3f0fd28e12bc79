"""Counts the different candidates while MD runs, so that the MD can end when enough have been found."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from al_engine.selection.fates import open_candidates, window_fates
from al_engine.selection.window import Window
from al_engine.units import MEV_PER_EV

SEPARATION_STRIDES = 5
"""Smallest number of strides between two candidates of a trajectory that count as different. The selection may thin
them further, because it knows how fast the deviation decorrelates."""


class DifferentCandidates:
    """Counter of the different candidates of a run of MD.

    A candidate is counted if it is far enough from the last counted candidate of its trajectory: by
    `SEPARATION_STRIDES`, and by `separation_strides`.

    Args:
        window: The window that the iteration is expected to have.
        deviation: `norm` or `component`: the force deviation that the window refers to.
        separation_strides: Smallest separation of two labelled frames of a trajectory that the selection allows, in
            strides; None: no such limit.
        stride_steps: MD steps between two sampled frames.

    Attributes:
        number: Number of different candidates counted so far.
    """

    def __init__(
        self,
        window: Window,
        *,
        deviation: Literal["norm", "component"],
        separation_strides: int | None,
        stride_steps: int,
    ) -> None:
        self.number = 0
        self._window, self._deviation = window, f"deviation_{deviation}"
        self._separation_steps = max(SEPARATION_STRIDES, separation_strides or 0) * stride_steps
        self._last_step: dict[int, int] = {}  # step of the last counted candidate, by trajectory

    @property
    def lower_ev_per_ang(self) -> float:
        """Lower end of the window, eV/Å."""
        return self._window.lower_mev_per_ang / MEV_PER_EV

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Count the different candidates among frames that have just been sampled.

        Args:
            columns: Columns of a sample part, by name, with one entry for each of the F frames. The frames of a
                trajectory are in order of time, and later than the frames added before.
        """
        fates = window_fates(
            columns[self._deviation], columns["net_force_deviation"], sound=columns["sound"], window=self._window
        )
        for index in open_candidates(fates).tolist():
            trajectory, step = int(columns["replica"][index]), int(columns["step"][index])
            last_step = self._last_step.get(trajectory)
            if last_step is None or step - last_step >= self._separation_steps:
                self._last_step[trajectory] = step
                self.number += 1
