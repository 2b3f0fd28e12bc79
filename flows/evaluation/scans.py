"""Errors against bond length: a bond of each kind is stretched in steps; each frame is labelled, and predicted."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from al_engine.campaign.labels import Labels, read_labels
from al_engine.committee.bond_curves import BondCurve, ScanPoint, bond_curve
from al_engine.committee.predictions import accuracy
from al_engine.errors import InputError
from al_engine.files.part_file import is_finished, part_key, write_part
from al_engine.structures.frames import FloatArray, Frame
from flows.compute.devices import worker_counts
from flows.evaluation import plots
from flows.evaluation.scan_frames import Of, ScanSubject, scan_subject
from flows.evaluation.subject import Subject
from flows.pages.display import Display
from flows.stages.labels.labelling import label_frames
from flows.stages.labels.levels import level_to_go_on_with
from flows.stages.search.scoring import EVALUATION_BATCH
from labelers.backends.registry import level_of_theory
from labelers.pool.pool import LabelPool
from samplers.probes.bond_kinds import BondKind, bond_kinds
from samplers.probes.bond_scan import bond_scan

WHAT = "bond-length"
SHORTEST_FACTOR, LONGEST_FACTOR = 0.85, 2.0
"""Shortest and longest bond in equilibrium lengths, as in the reference work (arXiv:2312.09490)."""
RANGES = ((0.85, 1.15), (1.15, 1.5), (1.5, 2.0))
"""Ranges of bond length, in equilibrium lengths, for which mean errors are given: thermal, bond breaking, broken."""


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """Options of the bond scans.

    Attributes:
        of: `system` or `molecule`: stretch bonds of the labelled frame, or of one molecule.
        frames: Number of frames in which each bond is stretched.
        bonds: Largest number of kinds of bonds.
        points: Number of lengths of each bond.
    """

    of: Of = "system"
    frames: int = 2
    bonds: int = 8
    points: int = 24

    @property
    def factors(self) -> FloatArray:
        """The bond lengths in units of the equilibrium length, shape (P,)."""
        return np.linspace(SHORTEST_FACTOR, LONGEST_FACTOR, self.points)


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """The scan of one bond.

    Attributes:
        kind: The kind of the bond.
        equilibrium_ang: Equilibrium length of the bond, Å.
        points: A list for each frame with an entry for each length; None for a length without a label.
        curve: Averages of the points over the frames.
    """

    kind: BondKind
    equilibrium_ang: float
    points: list[list[ScanPoint | None]]
    curve: BondCurve


def evaluate_bond_length(subject: Subject, options: ScanOptions, display: Display) -> dict[str, Any]:
    """Stretch bonds, label and predict the frames, and write the errors.

    Raises:
        InputError: If no bond can be stretched, no test frame is suitable, or no stretched frame could be labelled.
    """
    found = scan_subject(subject.ledger, subject.system, of=options.of, count=options.frames)
    kinds = bond_kinds(found.frames[0].numbers, found.bonds, limit=options.bonds)
    if not kinds:
        raise InputError(
            f"{subject.ledger.directory}: the molecule has no bond outside rings, so no bond can be stretched"
        )
    equilibria = [_equilibrium(kind, found) for kind in kinds]
    frames = [
        stretched
        for kind, length in zip(kinds, equilibria, strict=True)
        for frame in found.frames
        for stretched in bond_scan(frame, kind, length, options.factors)
    ]
    possible = [index for index, frame in enumerate(frames) if frame is not None]
    labels = _labels(subject, [frame for frame in frames if frame is not None], display)
    points: list[ScanPoint | None] = [None] * len(frames)
    labelled = [(possible[index], item) for index, item in labels.labelled.items()]
    if not labelled:
        raise InputError(f"{subject.ledger.directory}: no stretched frame could be labelled: {labels.failure_words()}")
    with display.step("predict") as progress:
        energies, forces = subject.committee().predict(
            [item.frame for _, item in labelled], batch_size=EVALUATION_BATCH, progress=progress
        )
    for column, (index, item) in enumerate(labelled):
        points[index] = ScanPoint(item, energies[:, column], forces[column])
    grid = np.empty(len(points), dtype=object)
    grid[:] = points
    by_kind = grid.reshape(len(kinds), len(found.frames), options.points).tolist()
    scans = [
        Scan(kind, length, rows, bond_curve(rows))
        for kind, length, rows in zip(kinds, equilibria, by_kind, strict=True)
    ]
    values = {
        "of": options.of,
        "formula": found.frames[0].to_atoms().get_chemical_formula(),
        "frames": len(found.frames),
        "factors": options.factors.tolist(),
        "colliding": len(frames) - len(possible),
        "labelled": len(labelled),
        "label_failures": labels.failures,
        "label_failure_words": labels.failure_words(),
        "all": _errors([point for point in points if point is not None]),
        "ranges": _by_range([row for scan in scans for row in scan.points], options.factors),
        "bonds": [_described(scan, options.factors) for scan in scans],
    }
    panels = [
        plots.ScanPanel(
            title=f"{scan.kind.name} ({scan.kind.count} alike)",
            lengths_ang=options.factors * scan.equilibrium_ang,
            curve=scan.curve,
        )
        for scan in scans
    ]
    return subject.result(WHAT, values, plots.scans_plot(panels))


def _equilibrium(kind: BondKind, found: ScanSubject) -> float:
    bond = np.flatnonzero((np.sort(found.bonds, axis=1) == np.sort(kind.pair)).all(axis=1))[0]
    return float(found.lengths[bond])


def _labels(subject: Subject, frames: Sequence[Frame], display: Display) -> Labels:
    """Labels of the frames: from an earlier evaluation of the same frames if it exists, otherwise new labels."""
    config = subject.ledger.config
    if not frames:
        raise InputError("no bond can be stretched without bringing other atoms too close to each other")
    periodic = frames[0].is_periodic
    level = level_of_theory(config.labels, periodic=periodic)
    if periodic == subject.config.labels_boxes:
        level = level_to_go_on_with(subject.ledger, level)
    closest, contact = config.selection.min_distance_ang, config.selection.min_contact_factor
    key = part_key(
        WHAT,
        {
            "level": level.fingerprint(),
            "max_force_ev_per_ang": config.labels.max_force_ev_per_ang,
            "frames": [frame.content_hash() for frame in frames],
            "min_distance_ang": closest,
            "min_contact_factor": contact,
        },
        [],
    )
    path = subject.output / f"bond-length-labels-{key[:12]}.h5"
    if not is_finished(path, key):
        _, workers = worker_counts(config, subject.device)
        with LabelPool(config.labels, workers=workers, periodic=periodic) as pool, display.step("label") as progress:
            journal = path.with_suffix(".journal")
            done = label_frames(pool, frames, config=config, level=level, journal=journal, key=key, progress=progress)
            with write_part(path, kind=path.stem, key=key) as root:
                done.write(root)
            journal.unlink()
    return read_labels([path])


def _errors(points: Sequence[ScanPoint]) -> dict[str, Any] | None:
    if not points:
        return None
    energies = np.array([point.energies.mean() for point in points])
    forces = [point.forces.mean(axis=0) for point in points]
    return asdict(accuracy(energies, forces, [point.labelled for point in points]))


def _by_range(rows: Sequence[Sequence[ScanPoint | None]], factors: FloatArray) -> list[dict[str, Any]]:
    described = []
    for low, high in RANGES:
        inside = (factors >= low) & ((factors < high) | (high == LONGEST_FACTOR))
        points = [row[index] for row in rows for index in np.flatnonzero(inside).tolist()]
        errors = _errors([point for point in points if point is not None])
        described.append({"from": low, "to": high, "errors": errors})
    return described


def _described(scan: Scan, factors: FloatArray) -> dict[str, Any]:
    curve = scan.curve
    return {
        "name": scan.kind.name,
        "elements": scan.kind.elements,
        "atoms": scan.kind.pair.tolist(),
        "alike": scan.kind.count,
        "equilibrium_ang": scan.equilibrium_ang,
        "lengths_ang": (factors * scan.equilibrium_ang).tolist(),
        "labelled": curve.labelled.tolist(),
        "energy_mae_mev_per_atom": _listed(curve.energy_mae),
        "force_mae_mev_per_ang": _listed(curve.force_mae),
        "deviation_mev_per_ang": _listed(curve.deviation),
        "reference_ev": _listed(curve.reference),
        "predicted_ev": _listed(curve.predicted),
        "ranges": _by_range(scan.points, factors),
    }


def _listed(values: FloatArray) -> list[float | None]:
    """A list for JSON, with None for values that are not finite."""
    return [float(value) if np.isfinite(value) else None for value in values]


def bond_length_text(answer: dict[str, Any]) -> str:
    """The result as text for the terminal."""
    heads = [f"{part['from']:g}-{part['to']:g}" for part in answer["ranges"]]
    lines = [
        (
            f"iteration {answer['iteration']}, {answer['labelled']} labelled frames of {answer['formula']}, bonds at "
            f"{answer['factors'][0]:g} to {answer['factors'][-1]:g} equilibrium lengths; MAE of the committee's mean"
        ),
        "",
        f"{'':>12}  {'':>5}  {'forces / meV/Å':^29}  {'energy / meV/atom':^29}",
        f"{'bond':>12}  {'alike':>5}  " + "  ".join(" ".join(f"{head:>9}" for head in heads) for _ in range(2)),
    ]
    for row in [*answer["bonds"], {"name": "all", "alike": "", "ranges": answer["ranges"]}]:
        cells = [f"{row['name']:>12}  {row['alike']:>5}"]
        for quantity in ("forces_mev_per_ang", "energy_mev_per_atom"):
            values = [part["errors"] and part["errors"][quantity]["mae"] for part in row["ranges"]]
            cells.append(" ".join(f"{'-' if value is None else format(value, '.3g'):>9}" for value in values))
        lines.append("  ".join(cells))
    if answer["colliding"] or answer["label_failures"]:
        lines += [
            "",
            f"left out: {answer['colliding']} frames with colliding atoms, {answer['label_failures']} without a label"
            + (f" ({answer['label_failure_words']})" if answer["label_failures"] else ""),
        ]
    return "\n".join([*lines, "", answer["plot"]])
