"""The command line. Heavy imports happen inside the commands, so that `--help` is instant."""

import logging
import os
import signal
import sys
from typing import NoReturn

import typer

from al_engine.errors import AlEngineError, ExitStatus
from al_engine.files.atomic import BROKEN, DISK_FULL, REFUSED
from flows.cli.options import say_error
from flows.cli.verbs.check import check
from flows.cli.verbs.evaluate import evaluate
from flows.cli.verbs.export import export
from flows.cli.verbs.init import init
from flows.cli.verbs.run import resume, run
from flows.cli.verbs.status import status
from flows.cli.verbs.ui import ui
from flows.cli.verbs.verify import verify
from flows.pages.terminal import in_utf8, write_readably

TYPER_INTERRUPTED = 130
"""Exit status with which typer ends after Ctrl-C."""
app = typer.Typer(
    name="al-engine",
    help="From a molecule to a machine-learning force field, by active learning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for _command in (init, check, run, resume, status, evaluate, verify, export, ui):
    app.command()(_command)


def _terminate(signal_number: int, frame: object) -> None:
    """End a campaign on SIGTERM, which queues send, as on Ctrl-C."""
    del signal_number, frame
    raise KeyboardInterrupt


def _interrupted() -> NoReturn:
    say_error("interrupted; nothing finished is lost. The same command goes on, or al-engine resume")
    sys.exit(ExitStatus.INTERRUPTED)


def main() -> None:
    """Run the command line; every expected error gives one message and an exit status."""
    in_utf8()
    write_readably()
    signal.signal(signal.SIGTERM, _terminate)
    logging.captureWarnings(capture=True)
    try:
        app()
    except AlEngineError as error:
        say_error(f"error: {error}")
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as error:
        if error.code == TYPER_INTERRUPTED:  # Ctrl-C outside the parts that a command itself guards
            _interrupted()
        raise
    except BrokenPipeError:
        sys.exit(ExitStatus.DONE)
    except OSError as error:
        if error.errno in (*BROKEN, *DISK_FULL):  # a disk that failed while any file was written
            say_error(f"error: {error}. Nothing finished is lost: see to the disk, then resume")
            sys.exit(ExitStatus.INTERRUPTED)
        if error.errno in REFUSED and isinstance(error.filename, str | bytes):
            say_error(f"error: {os.fsdecode(error.filename)}: {error.strerror}; name another path, or change this one")
            sys.exit(ExitStatus.BAD_INPUT)
        raise


if __name__ == "__main__":
    main()
