"""Files of a user's that a campaign reads: a structure, a trajectory."""

import hashlib

from al_engine.errors import InputError
from al_engine.ledger import Ledger


def input_file_hashes(ledger: Ledger) -> dict[str, str]:
    """SHA-256 of every file that the config names, by its name as it stands there.

    Args:
        ledger: The campaign; names are relative to its directory.

    Raises:
        InputError: If one cannot be read.
    """
    config = ledger.config
    files = [name for name in (config.system.structure, config.initial.file) if name is not None]
    hashes = {}
    for name in files:
        path = ledger.directory / name
        try:
            hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return hashes
