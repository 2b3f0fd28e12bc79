"""Stage `iterNNN-audit`: draw accurate frames of the judged iterations, to test what the window claims of them."""

from collections.abc import Sequence

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.audited import AccurateFrames, AuditPlan, accurate_frames, stored_audit_plan
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig, StatePoint
from al_engine.files.frames_hdf5 import read_frames
from al_engine.seeds import derived_rng, derived_seed
from al_engine.selection.cutting import Cutting, LabelStructure
from al_engine.selection.window import Window
from al_engine.structures.frames import BoolArray, IntArray
from al_engine.verdict.audit_labels import drawn
from al_engine.verdict.evidence import judged_together
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.search.selection_inputs import point_cuttings, write_structures

STORED = ("deviation_norm", "deviation_component")
"""Columns of the sample parts that are stored with the drawn frames."""
COLUMNS = (*STORED, "net_force_deviation", "worst_atom", "worst_molecule")


def plan(ledger: Ledger, iteration: int) -> Stage:
    """The stage that draws the frames for the audit of an iteration's committee."""
    config, planned = ledger.config, planned_audit(ledger, iteration)
    parents = names.all_initial_frames(config)
    for judged in planned.iterations:
        parents += names.samples(judged, config.state_points)
        parents += [names.selection(judged), names.append(judged)]
    return Stage(
        name=names.audit(iteration),
        job=f"{__name__}:draw",
        inputs={
            "frames": planned.frames,
            "iterations": list(planned.iterations),
            "seed": derived_seed(config.seed, "audit", iteration),
            "cut": [config.selection.cut_molecules, config.selection.cut_centre, config.seed],
        },
        parents=tuple(parents),
        arguments={"iteration": iteration, "frames": planned.frames, "iterations": list(planned.iterations)},
        needs="nothing",
    )


def planned_audit(ledger: Ledger, iteration: int) -> AuditPlan:
    """The frames that an audit draws. An audit that has begun keeps its plan, even if the stop rules have changed."""
    parts, name = ledger.reader(), names.audit(iteration)
    if name in parts.names:
        return stored_audit_plan(parts, iteration)
    finished = ledger.audit(iteration)
    if finished is not None:
        return AuditPlan(finished.requested, finished.iterations)
    judged = judged_together(ledger.own_history(before=iteration + 1), ledger.config.stop)
    return AuditPlan(ledger.config.stop.audit_labels, tuple(record.iteration for record in judged))


def draw(work: Work, *, iteration: int, frames: int, iterations: list[int]) -> None:
    """Draw the frames, cut them as candidates are cut, and write them with their deviations."""
    config, parts = work.config, work.parts
    points = config.state_points
    pools = accurate_frames(parts, config, iterations)
    numbers = drawn([len(pool) for pool in pools], frames, derived_rng(config.seed, "audit", iteration))
    chosen = [pool.at(own) for pool, own in zip(pools, numbers, strict=True)]
    cuttings = point_cuttings(parts, config, config.state_points)
    structures: list[LabelStructure] = []
    interior: list[BoolArray] = []
    stored: dict[str, list[np.ndarray]] = {name: [] for name in STORED}
    for point, here, cutting in zip(points, chosen, cuttings, strict=True):
        for judged in iterations:
            cut, inner, columns = _structures(
                parts,
                config,
                here.at(here.iteration == judged),
                cutting=cutting,
                iteration=judged,
                point=point,
            )
            structures += cut
            interior += inner
            for name, values in stored.items():
                values.append(columns[name])
    with parts.open(names.selection(iteration)) as root:
        window = Window.from_attributes(root.attrs)
    with work.write() as root:
        write_structures(root.create_group("selected"), structures, interior)
        part = np.repeat(np.arange(len(points)), [len(here) for here in chosen])
        root["source"] = np.column_stack(
            [_joined([c.iteration for c in chosen]), part, _joined([c.row for c in chosen])]
        )
        root["index"] = _joined([here.index for here in chosen])
        root["temperature_kelvin"] = np.array([point.temperature_kelvin for point in points])[part]
        for name, values in stored.items():
            root[name] = np.concatenate(values)
        root.attrs.update(window.to_attributes())
        root.attrs["frames"], root.attrs["iterations"] = frames, iterations
        accurate = sum(len(pool) for pool in pools)
        summarise(root, f"{len(structures)} of {accurate} accurate frames drawn")


def _structures(
    parts: PartReader,
    config: CampaignConfig,
    frames: AccurateFrames,
    *,
    cutting: Cutting,
    iteration: int,
    point: StatePoint,
) -> tuple[list[LabelStructure], list[BoolArray], dict[str, np.ndarray]]:
    """The structures to label for drawn frames of one iteration and state point, their interior atoms, and columns."""
    with parts.open(names.selection(iteration)) as root:
        window = Window.from_attributes(root.attrs)
    with parts.open(names.sample(iteration, point.temperature_kelvin, point.system)) as root:
        whole = read_frames(root["frames"], rows=frames.row)
        columns = {name: root[name][()][frames.row] for name in COLUMNS}
    structures = cutting.apply(
        whole,
        frames.index,
        iteration=iteration,
        worst_atom=columns["worst_atom"],
        worst_molecule=columns["worst_molecule"],
        by_net_force=window.by_net_force(
            columns[f"deviation_{config.selection.deviation}"], columns["net_force_deviation"]
        ),
    )
    interior = [
        cutting.interior(frame, structure, cutoff_ang=config.model.short.cutoff_ang)
        for frame, structure in zip(whole, structures, strict=True)
    ]
    return structures, interior, columns


def _joined(arrays: Sequence[IntArray]) -> IntArray:
    return np.concatenate(arrays).astype(np.int64)
