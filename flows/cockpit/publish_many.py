"""The page of many campaigns in Prefect: one table, written anew whenever a campaign has ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import create_table_artifact
from prefect.exceptions import PrefectException

from al_engine.errors import ResumableError
from flows.cockpit.publish import slug


def publish_table(folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Publish the table of the campaigns in a folder as an artifact; returns its key.

    Raises:
        ResumableError: If the Prefect server does not take it.
    """
    key = f"{slug(folder.resolve().name)}-campaigns"
    try:
        create_table_artifact([dict(row) for row in rows], key=key, description=f"The campaigns in {folder.resolve()}")
    except (PrefectException, httpx.HTTPError, OSError) as error:
        raise ResumableError(f"the table of campaigns is not on Prefect's pages: {error}") from None
    return key
