"""Writing a config: YAML with the description of every field as a comment above the field.

The sections of a list are written with all their options, without comments. The sections of a mapping are written in
one line, with the options that are set.
"""

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from al_engine.config import CampaignConfig

WIDTH = 100


def config_text(config: CampaignConfig) -> str:
    """The config as commented YAML, from which `reader` reads an equal config."""
    title = f"# al-engine campaign `{config.name}`. Units stand in the names; the comment above an option describes it."
    return "\n".join([title, "", *_lines(config, indent=0)]) + "\n"


def _lines(section: BaseModel, indent: int) -> Iterator[str]:
    pad = " " * indent
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        is_section = isinstance(value, BaseModel)
        if indent == 0 and is_section:
            yield ""
        for line in textwrap.wrap(info.description or "", WIDTH - indent - 2):
            yield f"{pad}# {line}"
        if isinstance(value, BaseModel):
            yield f"{pad}{name}:"
            yield from _lines(value, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            yield f"{pad}{name}:"
            sections = yaml.safe_dump([item.model_dump() for item in value], sort_keys=False, allow_unicode=True)
            yield textwrap.indent(sections.rstrip("\n"), f"{pad}  ")
        else:
            yield f"{pad}{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    """A value in one line of YAML; of the sections of a mapping, the options that are set."""
    if isinstance(value, dict):
        value = {
            key: item.model_dump(exclude_none=True) if isinstance(item, BaseModel) else item
            for key, item in value.items()
        }
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
