"""Running a campaign under Prefect, to its verdict."""

from al_engine.campaign.ledger import Ledger
from al_engine.verdict.verdict import Verdict
from flows.cockpit.server import Server, ensure_server, kept_alive
from flows.pages.display import Display
from flows.session.interrupts import interrupts_wait
from flows.session.prepare import Prepared, opened

SERVER_RESTARTS = 3
"""Number of times that a run starts its lost Prefect server again before it gives up."""


def run_campaign(prepared: Prepared, display: Display, *, retry: bool = False) -> Verdict:
    """Start or continue a campaign under Prefect, and run it to its verdict.

    Args:
        prepared: The campaign.
        display: Shows the campaign on the terminal.
        retry: Whether the newest failed labels are computed again.

    Returns:
        Why the campaign stopped.

    Raises:
        AlEngineError: If an input is wrong, a worker or the server is lost, or the disk is full; with a message for the
            user.
        KeyboardInterrupt: If the run is stopped by Ctrl-C or SIGTERM; all finished stages are on disk.
    """
    restarts, ledger, server = 0, prepared.ledger, None
    while True:
        with opened(prepared, display, retry=retry and restarts == 0) as current:
            server = ensure_server(lost=server)
            _announce(server, ledger, display)
            with interrupts_wait():  # Prefect reads at its import the settings of ensure_server
                from flows.cockpit.runner import ServerLostError, run_flow

            try:
                with display, kept_alive(server, display.say):
                    run_flow(current)
            except ServerLostError as error:
                restarts += 1
                if restarts > SERVER_RESTARTS:
                    raise
                display.say((f"{error}; starting the server again", "yellow"))
                continue
            verdict = ledger.verdict()
        if verdict is None:
            raise RuntimeError(f"{ledger.directory}: the flow ended without a verdict")
        return verdict


def _announce(server: Server, ledger: Ledger, display: Display) -> None:
    started = "started (it keeps running after the campaign)" if server.started else "found"
    display.say("campaign ", (ledger.config.name, "bold"), f" in {ledger.directory}")
    display.say(f"Prefect server {started}: ", (server.ui_url, "bold"))
    for remark in server.remarks:
        display.say(("warning", "yellow"), f": {remark}")
