"""The page of many campaigns in Prefect: one table, written anew whenever a campaign has ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import PrefectException

from al_engine.errors import ResumableError
from flows.cockpit.publish import slug
from flows.pages.many import many_table


def table_key(folder: Path) -> str:
    """Key of the artifact of a folder; its page is `/artifacts/key/KEY`, which Prefect's menu does not show."""
    return f"{slug(folder.resolve().name)}-campaigns"


def publish_table(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Publish the table of the campaigns in a folder as an artifact.

    Raises:
        ResumableError: If the Prefect server does not take it.
    """
    key = table_key(folder)
    try:
        create_markdown_artifact(many_table(rows), key=key, description=f"The campaigns in {folder.resolve()}")
    except (PrefectException, httpx.HTTPError, OSError) as error:
        raise ResumableError(f"the table of campaigns is not on Prefect's pages: {error}") from None
