"""The program of a computing worker: `python -m flows.compute.worker SOCKET PARENT`, started by a `ComputePool`.

A worker runs one job after another until the pool closes the socket. A job is a function, given by name as
`package.module:function`, that takes JSON-able keyword arguments and a `progress`, and returns a JSON-able value.
"""

import logging
import sys
import threading
import traceback
from importlib import import_module
from multiprocessing.connection import Connection

from al_engine import errors
from al_engine.child_process import Message, receive, run_child, send


class _Reporter(logging.Handler):
    """Sends the progress of a job to the pool, and the log lines of `models`, such as compile times, as notes."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.INFO)
        self._connection = connection
        self._last = 0, 0  # done and total of the last progress
        self._sending = threading.Lock()  # libraries log from threads of their own

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Send the progress of the job."""
        self._last = done, total
        with self._sending:
            send(self._connection, {"progress": [done, total, note]})

    def emit(self, record: logging.LogRecord) -> None:
        """Send a log line as a note."""
        self.progress(*self._last, record.getMessage())


def _answer(connection: Connection, request: Message) -> Message:
    """Run the job of a request and return a message for the pool: the job's result, or the error that it raised."""
    reporter, models = _Reporter(connection), logging.getLogger("models")
    models.setLevel(logging.INFO)
    models.addHandler(reporter)
    module, _, function = request["job"].partition(":")
    try:
        job = getattr(import_module(module), function)
        return {"result": job(**request["arguments"], progress=reporter.progress)}
    except errors.AlEngineError as error:
        # The pool can raise only classes of `al_engine.errors`: of any other class it gets the nearest base class.
        known = (kind.__name__ for kind in type(error).__mro__ if vars(errors).get(kind.__name__) is kind)
        return {"error": next(known), "message": str(error)}
    except Exception:  # noqa: BLE001 - the parent raises it again
        return {"bug": traceback.format_exc()}
    finally:
        models.removeHandler(reporter)


def serve(connection: Connection) -> None:
    """Run one job after another; the function ends only by an exception.

    Raises:
        EOFError: If the pool has closed the connection.
        OSError: If the connection is broken.
    """
    while True:
        send(connection, _answer(connection, receive(connection)))


if __name__ == "__main__":
    sys.exit(run_child(sys.argv[1:], serve))
