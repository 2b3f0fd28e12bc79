"""The program of a campaign of `run-many`: `python -m flows.session.campaign_process PARENT DIR`.

It becomes `al-engine run DIR`, in a process that the kernel kills when `run-many` ends, as it kills worker processes.
"""

import os
import sys

from al_engine.child_process import die_with_parent


def main(parent: str, directory: str) -> None:
    """Run a campaign.

    Args:
        parent: Process id of `run-many`.
        directory: The campaign directory.
    """
    die_with_parent(int(parent))  # which outlives the change of the program
    os.execv(sys.executable, [sys.executable, "-P", "-m", "flows.cli.app", "run", directory])  # noqa: S606 (no shell)


if __name__ == "__main__":
    main(*sys.argv[1:])
