"""Counts the different candidates of MD that is running, so that it can end when there are enough."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from al_engine.selection.fates import open_candidates, window_fates
from al_engine.selection.window import Window
from al_engine.units import MEV_PER_EV

SEPARATION_STRIDES = 5
"""Strides between two candidates of a trajectory that count as different. The selection, which knows how fast the
deviation decorrelates, may thin them further."""


class DifferentCandidates:
    """The number of candidates of a run, each at least `SEPARATION_STRIDES` later than the one before it.

    Args:
        window: The window that the iteration is expected to have.
        deviation: `norm` or `component`: the force deviation that the window refers to.
        separation_strides: Smallest separation that the selection asks for, strides; None: it has none.
        stride_steps: MD steps between two sampled frames.
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
        self._separation = max(SEPARATION_STRIDES, separation_strides or 0) * stride_steps
        self._counted: dict[int, int] = {}  # step of the last counted candidate, by trajectory

    @property
    def lower_ev_per_ang(self) -> float:
        """Lower end of the window, eV/Å."""
        return self._window.lower_mev_per_ang / MEV_PER_EV

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Count the candidates among the sampled frames of a stride.

        Args:
            columns: Columns of a sample part with F entries each, the frames of a trajectory in order of time.
        """
        fates = window_fates(
            columns[self._deviation], columns["net_force_deviation"], sound=columns["sound"], window=self._window
        )
        for index in open_candidates(fates).tolist():
            trajectory, step = int(columns["replica"][index]), int(columns["step"][index])
            if step - self._counted.get(trajectory, step - self._separation) >= self._separation:
                self._counted[trajectory] = step
                self.number += 1
