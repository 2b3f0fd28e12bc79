"""`al-engine ui`."""

from flows.cli.options import AsJson, answer, say_error


def ui(as_json: AsJson = False) -> None:
    """Find or start the Prefect server on this machine, and print the address of its pages."""
    from flows.cockpit.server import ensure_server

    server = ensure_server()
    for remark in server.remarks:
        say_error(f"warning: {remark}")
    answer({"ui": server.ui_url, "started": server.started}, server.ui_url, as_json=as_json)
