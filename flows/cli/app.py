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
from flows.cli.verbs.data import data
from flows.cli.verbs.deploy import deploy
from flows.cli.verbs.evaluate import evaluate
from flows.cli.verbs.export import export
from flows.cli.verbs.extend import extend
from flows.cli.verbs.fork import fork
from flows.cli.verbs.harvest import harvest
from flows.cli.verbs.init import init
from flows.cli.verbs.lammps import lammps
from flows.cli.verbs.run import resume, run
from flows.cli.verbs.run_many import run_many
from flows.cli.verbs.status import status
from flows.cli.verbs.ui import ui
from flows.cli.verbs.verify import verify
from flows.pages.terminal import in_utf8, write_readably

TYPER_INTERRUPTED = 130
"""Exit status with which typer ends after Ctrl-C."""
app = typer.Typer(
    name="al-engine",
    help="Train a machine-learning force field for a molecule by active learning. The usual order: init, check, run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for _command in (
    init,
    check,
    run,
    resume,
    status,
    evaluate,
    verify,
    fork,
    extend,
    export,
    lammps,
    harvest,
    run_many,
    deploy,
    ui,
):
    app.command()(_command)
app.add_typer(data, name="data")


def _terminate(signal_number: int, frame: object) -> None:
    """End a campaign on SIGTERM, which queues send, in the same way as on Ctrl-C."""
    del signal_number, frame
    raise KeyboardInterrupt


def _interrupted() -> NoReturn:
    """Report the interruption of a command, and exit with the status of a campaign that can be resumed."""
    say_error("interrupted; nothing finished is lost. Continue with the same command, or with: al-engine resume DIR")
    sys.exit(ExitStatus.INTERRUPTED)


def main() -> None:
    """Run the command line; an expected error is shown as one message and sets the exit status."""
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
        if error.code == TYPER_INTERRUPTED:  # Ctrl-C where no command handles it
            _interrupted()
        raise
    except BrokenPipeError:  # the program that reads the output, such as `head`, has ended
        sys.exit(ExitStatus.DONE)
    except OSError as error:
        if error.errno in (*BROKEN, *DISK_FULL):  # the disk failed, or is full
            say_error(f"error: {error}. Nothing finished is lost: repair the disk, then run `al-engine resume DIR`")
            sys.exit(ExitStatus.INTERRUPTED)
        if error.errno in REFUSED and isinstance(error.filename, str | bytes):
            say_error(f"error: {os.fsdecode(error.filename)}: {error.strerror}; give another path")
            sys.exit(ExitStatus.BAD_INPUT)
        raise


if __name__ == "__main__":
    main()
