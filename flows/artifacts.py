"""What an iteration's page shows: one Markdown artifact with a table and three plots, and an event."""

import base64
import re

from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event

from al_engine.ledger import Ledger
from al_engine.parts import open_part
from flows import names, plots
from flows.display import duration_text


def publish_iteration(ledger: Ledger, iteration: int, *, campaign: str) -> None:
    """Publish the iteration's artifact and event to Prefect."""
    record = ledger.history()[iteration]
    create_markdown_artifact(
        iteration_markdown(ledger, iteration),
        key=f"{_slug(campaign)}-iteration-{iteration}",
        description=f"{campaign}, iteration {iteration}: acceptance {record.counts.acceptance:.2%}",
    )
    emit_event(
        "al-engine.iteration.completed",
        resource={"prefect.resource.id": f"al-engine.campaign.{_slug(campaign)}"},
        payload={key: value for key, value in record.summary().items() if value is not None},
    )


def _slug(name: str) -> str:
    """Prefect's artifact keys take lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def iteration_markdown(ledger: Ledger, iteration: int) -> str:
    """The iteration as Markdown; images stand inside as data URIs, so that the page needs nothing else."""
    history = ledger.history()[: iteration + 1]
    record, config = history[-1], ledger.config
    with open_part(ledger.part_path(names.selection(iteration))) as root:
        deviation = root[f"deviation_{config.selection.deviation}"][()]
    with open_part(ledger.part_path(names.evaluation(iteration))) as root:
        test, new = (
            (root[name]["forces_reference"][()], root[name]["forces_predicted"][()]) for name in ("test", "new")
        )
    counts = record.counts
    error = record.error_before_training_mev_per_ang
    rows = [
        ("sampled", f"{counts.sampled}"),
        ("accurate / candidate / rejected", f"{counts.accurate} / {counts.candidate} / {counts.rejected}"),
        ("acceptance", f"{counts.acceptance:.2%} (stop below {config.stop.acceptance:.2%})"),
        ("decorrelated frames", f"{record.decorrelated:.0f}"),
        ("labelled / failed", f"{record.labelled} / {record.label_failures}"),
        ("data set", f"{record.dataset_size} frames"),
        ("force MAE on new labels, before training", "no new label" if error is None else f"{error:.1f} meV/Å"),
        ("force MAE on the test set", f"{record.test_force_mae_mev_per_ang:.1f} meV/Å"),
        ("energy MAE on the test set", f"{record.test_energy_mae_mev_per_atom:.2f} meV/atom"),
        ("time", duration_text(ledger.iteration_seconds(iteration))),
    ]
    parity = plots.parity_plot(test, new, mae_mev_per_ang=record.test_force_mae_mev_per_ang)
    lines = [
        f"# {config.name}, iteration {iteration}",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        "| temperature | sampled | accurate | candidate | rejected | acceptance | decorrelated | stopped |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {t.temperature_kelvin:g} K | {t.counts.sampled} | {t.counts.accurate} | {t.counts.candidate} | "
            f"{t.counts.rejected} | {t.counts.acceptance:.2%} | {t.decorrelated:.0f} | {t.stopped} of {t.replicas} |"
            for t in record.temperatures
        ),
        "",
        _image("Acceptance by temperature", plots.acceptance_plot(history, config.stop.acceptance)),
        "",
        _image("Deviation histogram", plots.deviation_plot(deviation, config.selection)),
        "",
        _image("Parity plot", parity),
    ]
    return "\n".join(lines)


def _image(title: str, png: bytes) -> str:
    return f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})"
