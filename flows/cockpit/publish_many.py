"""The page of many campaigns in Prefect: one table, written anew whenever a campaign has ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_table_artifact

from flows.cockpit.publish import slug


def publish_table(folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Publish the table of the campaigns in a folder as an artifact; returns its key."""
    key = f"{slug(folder.resolve().name)}-campaigns"
    create_table_artifact([dict(row) for row in rows], key=key, description=f"The campaigns in {folder.resolve()}")
    return key
