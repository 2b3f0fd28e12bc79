"""The page of an iteration in Prefect: one Markdown artifact with tables and plots, and an event."""

import base64
import re
from collections.abc import Mapping, Sequence

from prefect.artifacts import Artifact, create_markdown_artifact
from prefect.events import emit_event

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.scores import GROUPS, read_scored
from al_engine.committee.calibration import Agreement, Calibration, agreement
from al_engine.committee.health import COLLAPSED, CommitteeHealth
from al_engine.config import StopConfig
from al_engine.files.part_file import open_part
from al_engine.selection.window import Window
from al_engine.verdict.audit_labels import QUANTILE, AuditResult
from al_engine.verdict.evidence import look_confidence, missing_evidence
from al_engine.verdict.records import IterationRecord
from al_engine.verdict.unlabelable import without_label_by_fate
from flows.pages.display import duration_text, number_text
from flows.pages.terminal import in_ascii
from flows.stages.audits.judging import evidence_of

_CLUSTERS = (
    "For clusters cut from boxes, the deviation, the error and the force MAE on new labels cover only the atoms that "
    "stand for the box. The parity plot and the force MAE on the test set cover all atoms."
)
"""Note on the page of a campaign that cuts clusters."""


def publish_if_missing(ledger: Ledger, iteration: int, *, campaign: str) -> None:
    """Publish an iteration unless it has a page: a process may be killed after an iteration and before its page."""
    if Artifact.get(_key(campaign, iteration)) is None:
        publish_iteration(ledger, iteration, campaign=campaign)


def publish_iteration(ledger: Ledger, iteration: int, *, campaign: str) -> None:
    """Publish the iteration's page and event to Prefect."""
    publish_page(ledger, iteration, campaign=campaign)
    emit_event(
        "al-engine.iteration.completed",
        resource={"prefect.resource.id": f"al-engine.campaign.{slug(campaign)}"},
        payload={key: value for key, value in ledger.history()[iteration].summary().items() if value is not None},
    )


def publish_page(ledger: Ledger, iteration: int, *, campaign: str) -> None:
    """Publish the iteration's page as an artifact; a page that exists gets a new version."""
    record = ledger.history()[iteration]
    create_markdown_artifact(
        iteration_markdown(ledger, iteration),
        key=_key(campaign, iteration),
        description=f"{campaign}, iteration {iteration}: acceptance {record.counts.acceptance:.2%}",
    )


def _key(campaign: str, iteration: int) -> str:
    """Key of the artifact of an iteration."""
    return f"{slug(campaign)}-iteration-{iteration}"


def slug(name: str) -> str:
    """A name as an artifact key, for which Prefect allows lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "".join(map(in_ascii, name)).lower()).strip("-")


def iteration_markdown(ledger: Ledger, iteration: int) -> str:
    """The page of an iteration as Markdown. Images are embedded as data URIs, so that the page needs no other file."""
    from flows.pages import plots  # importing matplotlib takes half a second

    history = ledger.history()[: iteration + 1]
    record, config = history[-1], ledger.config
    kind = config.selection.deviation
    with open_part(ledger.part_path(names.selection(iteration))) as root:
        deviation, window = root[f"deviation_{kind}"][()], Window.from_attributes(root.attrs)
    with open_part(ledger.part_path(names.evaluation(iteration))) as root:
        parity = {name: (root[name]["forces_reference"][()], root[name]["forces_predicted"][()]) for name in GROUPS}
        scored = {name: read_scored(root[name], kind) for name in GROUPS}
        scored_at = {
            t.point: read_scored(root["test"], kind, point=t.point) + read_scored(root["new"], kind, point=t.point)
            for t in record.temperatures
        }
    judged = ledger.own_history(before=iteration + 1) or history  # an iteration of the campaign that was forked
    missing = missing_evidence(
        judged,
        evidence_of(ledger, judged),
        config.stop,
        config.selection,
        trajectory_frames=config.sampling.trajectory_frames,
    )
    agreements = [("test set", agreement(scored["test"])), ("new labels", agreement(scored["new"]))]
    agreements += [(f"both, {point}", agreement(frames)) for point, frames in scored_at.items()]
    lines = [
        f"# {config.name}, iteration {iteration}",
        "",
        *(f"> **Warning**: {warning}\n" for warning in record.warnings),
        *_table(("", ""), _rows(record, window, config.stop, duration_text(ledger.iteration_seconds(iteration)))),
        "Converged." if not missing else f"Not converged: {'; '.join(missing)}.",
        "",
        *_temperature_table(record, config.stop),
        *_system_table(record),
        _image("Acceptance by temperature", plots.acceptance_plot(history, config.stop.acceptance)),
        "",
        _image("Deviation histogram", plots.deviation_plot(deviation, window)),
        "",
        "## Deviation and true error",
        "",
        *([_CLUSTERS, ""] if any(own.selection.cut_molecules for own in config.by_system.values()) else []),
        *_calibration_lines(record.calibration, window),
        *_table(
            ("labelled frames", "number", "error / deviation", "member's error / deviation", "rank correlation"),
            [_agreement_row(name, found) for name, found in agreements if found is not None],
        ),
        _image("Calibration plot", plots.calibration_plot(scored["test"], scored["new"], window)),
        "",
        *_audit_lines(record.audit),
        *_member_table(record.health),
        _image(
            "Parity plot",
            plots.parity_plot(parity["test"], parity["new"], mae_mev_per_ang=record.test_force_mae_mev_per_ang),
        ),
    ]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table and an empty line; no lines if the table has no rows."""
    if not rows:
        return []
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)] + [""]


def _rows(record: IterationRecord, window: Window, stop: StopConfig, time: str) -> list[tuple[str, str]]:
    """The rows of the first table of the page: the quantities of the iteration and their values."""
    counts = record.counts
    confidence = look_confidence(stop)
    low, high = record.bounds(confidence)
    return [
        ("sampled", f"{counts.sampled} frames, worth {record.decorrelated:.0f} decorrelated frames"),
        ("accurate / candidate / rejected", f"{counts.accurate} / {counts.candidate} / {counts.rejected}"),
        ("fates of the candidates", _fates_text(record.candidate_fates)),
        ("window", f"{window.lower_mev_per_ang:.0f} to {window.upper_mev_per_ang:.0f} meV/Å"),
        ("acceptance", f"{counts.acceptance:.2%} (stop below {stop.acceptance:.2%})"),
        (f"bounds of the acceptance at {100 * confidence:.4g}%", f"{low:.2%}, {high:.2%}"),
        ("labelled / failed", f"{record.labelled} / {record.label_failures}"),
        ("data set", f"{record.dataset_size} frames"),
        (
            "force MAE on new labels, before training",
            f"{number_text(record.error_before_training_mev_per_ang)} meV/Å",
        ),
        ("force MAE on the test set", f"{number_text(record.test_force_mae_mev_per_ang)} meV/Å"),
        ("energy MAE on the test set", f"{number_text(record.test_energy_mae_mev_per_atom, '.2f')} meV/atom"),
        *(
            [("stress MAE on the test set", f"{record.test_stress_mae_gpa:.3f} GPa")]
            if record.test_stress_mae_gpa is not None
            else []
        ),
        ("time", time),
    ]


def _temperature_table(record: IterationRecord, stop: StopConfig) -> list[str]:
    """Frames and trajectories at each state point."""
    header = (
        "temperature",
        "sampled",
        "accurate",
        "candidate",
        "rejected",
        "acceptance",
        "bounds",
        "decorrelated",
        "stopped",
        "candidates without a label",
    )
    rows = []
    for t in record.temperatures:
        low, high = t.bounds(look_confidence(stop))
        counts = (t.counts.sampled, t.counts.accurate, t.counts.candidate, t.counts.rejected)
        rows.append(
            (
                str(t.point),
                *(str(number) for number in counts),
                f"{t.counts.acceptance:.2%}",
                f"{low:.2%}, {high:.2%}",
                f"{t.decorrelated:.0f}",
                f"{t.stopped} of {t.replicas}" + (f", {t.saturated} ended among candidates" if t.saturated else ""),
                _fates_text(without_label_by_fate(t)),
            )
        )
    return _table(header, rows)


def _system_table(record: IterationRecord) -> list[str]:
    """The test errors of each system; no lines in a campaign of one system."""
    rows = [
        (
            errors.system,
            f"{number_text(errors.test_force_mae_mev_per_ang)} meV/Å",
            f"{number_text(errors.test_energy_mae_mev_per_atom, '.2f')} meV/atom",
        )
        for errors in record.systems
    ]
    return _table(("system", "force MAE on its test set", "energy MAE on its test set"), rows)


def _fates_text(fates: Mapping[str, int] | None) -> str:
    """Numbers of candidates by fate; a dash if an older version did not store them."""
    if fates is None:
        return "-"
    return ", ".join(f"{number} {fate.replace('_', ' ')}" for fate, number in fates.items()) or "0"


def _calibration_lines(calibration: Calibration | None, window: Window) -> list[str]:
    """The true errors of frames whose deviations are at the ends of the window; no lines without a calibration."""
    if calibration is None:
        return []
    ends = (
        (window.lower_mev_per_ang, calibration.lower_means),
        (window.upper_mev_per_ang, calibration.upper_means),
    )
    lines = [
        f"A deviation of {end:.0f} meV/Å meant a true error of {meant} meV/Å on the worst atom."
        for end, meant in ends
        if meant is not None
    ]
    return [*lines, ""] if lines else ["Too few labelled frames have deviations near the window to calibrate it.", ""]


def _agreement_row(name: str, found: Agreement) -> tuple[str, ...]:
    """A row on labelled frames: how well their deviations agree with their true errors."""
    return (
        name,
        str(found.frames),
        str(found.error_over_deviation),
        f"{found.member_error_over_deviation:.3g}",
        number_text(found.rank_correlation, ".2f"),
    )


def _audit_lines(audit: AuditResult | None) -> list[str]:
    """The audited frames by temperature, with the bounds of the share of bad frames; no lines without an audit.

    A frame is bad if its true error is above the lower end of the window.
    """
    if audit is None:
        return []
    rows = []
    for t in (*audit.temperatures, audit.overall):
        low, high = t.share_bounds(audit.confidence)
        rows.append(
            (
                t.where,
                str(t.labelled),
                str(t.bad),
                f"{low:.1%}, {high:.1%}",
                number_text(t.quantile_mev_per_ang, ".0f"),
                number_text(t.bound_mev_per_ang, ".0f"),
                number_text(t.largest_mev_per_ang, ".0f"),
            )
        )
    header = (
        "temperature",
        "audited",
        f"error above {audit.lower_mev_per_ang:.0f} meV/Å",
        f"bounds of this share at {audit.confidence:.0%} confidence",
        f"{QUANTILE:.0%} quantile of the error / meV/Å",
        f"bound of the quantile at {audit.confidence:.0%} confidence / meV/Å",
        "largest error / meV/Å",
    )
    outcome = "passed" if audit.passed else "failed: the audited frames join the data set"
    return ["## Audit", "", f"The audit {outcome}. {audit.statement()}.", "", *_table(header, rows)]


def _member_table(health: CommitteeHealth | None) -> list[str]:
    """The errors of the committee and of each member; no lines if the committee was not assessed."""
    if health is None:
        return []
    columns = zip(health.member_error_mev_per_ang, health.member_error_ratio, health.deviation_without, strict=True)
    rows = [
        (str(member), number_text(error), number_text(ratio, ".2f"), number_text(deviation_share, ".0%"))
        for member, (error, ratio, deviation_share) in enumerate(columns)
    ]
    lines = ["## The committee", ""]
    if health.error_over_spread is not None:
        factor = f"{health.error_over_spread:.2f} times the spread of its members"
        meaning = f"a committee above {COLLAPSED:g} times has collapsed"
        lines += [f"On the test set the error of the committee is {factor}; {meaning}.", ""]
    header = (
        "member",
        "RMS force error / meV/Å",
        "error / median error of the other members",
        "deviation without the member / deviation of all members",
    )
    return lines + _table(header, rows)


def _image(title: str, png: bytes) -> str:
    """A PNG image as Markdown."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})"
