# ruff: noqa: INP001 (a script, not a package)
"""Write docs/config.md, the reference of every config option, from `al_engine.config` alone.

Types and ranges are those of pydantic's JSON schema, defaults those of the models: what validates a config is what
documents it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from al_engine.config import MUTABLE, CampaignConfig, Section
from al_engine.config.presets import PRESETS

OUTPUT = Path(__file__).with_name("config.md")
BOUNDS = (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤"))
TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false", "object": "mapping"}

INTRODUCTION = f"""\
<!-- Written by `make docs` from al_engine/config; edit that. -->
# Every option of `campaign.yaml`

`al-engine init` writes a file with all options and their descriptions; a config file needs only the options that differ
from the defaults. Units stand in the names. An unknown key is refused, and the error names the nearest known key.

Once a campaign has begun, only {", ".join(f"`{name}`" for name in MUTABLE)} may change."""


def reference() -> str:
    """The whole page."""
    fields = CampaignConfig.model_fields
    plain = {name: info for name, info in fields.items() if _section_type(info) is None}
    blocks = [INTRODUCTION, _table("", CampaignConfig, plain, default=None)]
    for name, info in fields.items():
        section = _section_type(info)
        if section is not None:
            default = _default(info)
            blocks += _section(name, section, info, default=default if isinstance(default, BaseModel) else None)
    return "\n\n".join([*blocks, _presets()]) + "\n"


def _section(key: str, model: type[BaseModel], info: FieldInfo, *, default: Any) -> Iterator[str]:
    """Heading, description and table of a section, then of the sections inside it."""
    yield f"{'#' * (key.count('.') + 2)} `{key}`"
    purpose, described = (model.__doc__ or "").strip(), info.description or ""
    base = model.__base__
    fields = dict(model.model_fields)
    if base is not None and base is not Section and issubclass(base, Section):  # its options have a table of their own
        fields = {name: field for name, field in fields.items() if name not in base.model_fields}
        purpose = f"{described} The options that `system` has too are described there."
    yield described if "." in key else purpose
    inner = {name: field for name, field in fields.items() if _section_type(field)}
    plain = {name: field for name, field in fields.items() if name not in inner}
    yield _table(f"{key}.", model, plain, default=default)
    for name, field in inner.items():
        below = _default(field) if default is None else getattr(default, name)
        below = None if isinstance(below, list | dict) else below  # a list or mapping of sections is empty by default
        section = _section_type(field)
        if section is not None:
            yield from _section(f"{key}.{name}", section, field, default=below)


def _section_type(info: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds, if it holds one."""
    for candidate in (info.annotation, *getattr(info.annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _default(info: FieldInfo) -> Any:
    return None if info.is_required() else info.get_default(call_default_factory=True)


def _table(prefix: str, model: type[BaseModel], fields: Mapping[str, FieldInfo], *, default: Any) -> str:
    """A table of options; `default` is the section's default value where it has one."""
    schema = model.model_json_schema()["properties"]
    rows = ["| key | type | default | range | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, info in fields.items():
        if default is not None:
            shown = _value(getattr(default, name))
        else:
            shown = "required" if info.is_required() else _value(_default(info))
        kind, limits = _type(schema[name]), _range(schema[name])
        rows.append(f"| `{prefix}{name}` | {kind} | {shown} | {limits} | {info.description} |")
    return "\n".join(rows)


def _value(value: Any) -> str:
    """A value as YAML takes it."""
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    return value if isinstance(value, str) else json.dumps(value)


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join("null" if option["type"] == "null" else _type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}s"
    return TYPES[schema["type"]]


def _range(schema: Mapping[str, Any]) -> str:
    limits = [
        f"{sign} {schema[word]:g}" if isinstance(schema[word], float) else f"{sign} {schema[word]}"
        for word, sign in BOUNDS
        if word in schema
    ]
    inner = [_range(option) for option in schema.get("anyOf", [])]
    if "items" in schema:
        inner.append(_range(schema["items"]))
    return ", ".join(filter(None, [*limits, *inner]))


def _presets() -> str:
    """What each preset sets, beside the defaults."""
    flat = {preset: dict(_leaves(values, "")) for preset, values in PRESETS.items()}
    defaults = dict(_leaves(_default_values(), ""))
    keys = [key for key in defaults if len({_value(values.get(key, defaults[key])) for values in flat.values()}) > 1]
    rows = [
        "| key | " + " | ".join(f"`{preset}`" for preset in PRESETS) + " |",
        "| --- |" + " --- |" * len(PRESETS),
        *(
            f"| `{key}` | " + " | ".join(_value(values.get(key, defaults[key])) for values in flat.values()) + " |"
            for key in keys
        ),
    ]
    title = (
        "## Presets\n\nThe options in which the presets of `al-engine init --preset` differ; all others are default."
    )
    return title + "\n\n" + "\n".join(rows)


def _default_values() -> dict[str, Any]:
    """All defaults as nested mappings; null where a key must be given."""
    values: dict[str, Any] = {}
    for name, info in CampaignConfig.model_fields.items():
        section, default = _section_type(info), _default(info)
        if isinstance(default, BaseModel):
            values[name] = default.model_dump(mode="json")
        elif section is not None:
            values[name] = {key: _default(field) for key, field in section.model_fields.items()}
        else:
            values[name] = default
    return values


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


if __name__ == "__main__":
    OUTPUT.write_text(reference(), encoding="utf-8")
