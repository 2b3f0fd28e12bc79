"""Reading a config: from YAML to `CampaignConfig`, or an error that names each wrong key with its value."""

import difflib
import re
import shlex
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from al_engine.config import MUTABLE, CampaignConfig, is_mutable
from al_engine.config.base import Section
from al_engine.errors import InputError, typed

MAX_CONFIG_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-3` is a number (as in YAML 1.2), and a repeated key or an alias is an error.

    Aliases are refused because a few of them can expand to more values than fit into memory.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            alias: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None,
                None,
                f"aliases such as `*{alias.anchor}` are not supported; write the value itself",
                alias.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 (PyYAML's signature)
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):  # a key that is not hashable is refused below
                if key in seen:
                    problem = f"key `{key}` is given twice (line {key_node.start_mark.line + 1})"
                    raise yaml.constructor.ConstructorError(None, None, problem, None)
                seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)

OF_FILES = ("file", "structure", "structures", "start")
"""Names of options whose values are paths."""


def load_config(path: Path, *, begun: CampaignConfig | bool = False) -> CampaignConfig:
    """Read and validate a config file.

    Args:
        path: The file.
        begun: True for the stored config of a campaign that has begun. Its options were all written down then, so that
            a missing option is newer than the campaign and has the value of `Section.added_fields`. For a user's file
            that continues a campaign, the campaign's config, from which such options are taken if they are missing.

    Raises:
        InputError: If the file is missing or not a YAML mapping, or a value is wrong; the message names the key.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise InputError(f"{path}: is larger than {MAX_CONFIG_BYTES} bytes, too large for a campaign config")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `al-engine init DIR --smiles S` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from None
    return parse_config(text, source=str(path), begun=begun)


def parse_config(text: str, *, source: str, begun: CampaignConfig | bool = False) -> CampaignConfig:
    """Read and validate YAML text, as `load_config`; error messages begin with `source`.

    Raises:
        InputError: As `load_config`.
    """
    try:
        data = _yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        detail = " ".join(str(error).split())
        raise InputError(f"{source}: not valid YAML: {detail}") from None
    if not isinstance(data, dict):
        raise InputError(f"{source}: expected keys and values (`name: ...`), got {_shown(data)}")
    return validate_config(data, source=source, begun=begun)


def parse_value(text: str, *, source: str) -> Any:
    """A value in YAML, such as that of an option on the command line.

    Raises:
        InputError: If the text is no YAML; the message begins with `source`.
    """
    try:
        return _yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


@lru_cache(maxsize=4)
def _yaml(text: str) -> Any:
    """The content of a YAML text. Not to be changed: it is cached, because every stage reads the same config."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)


def validate_config(data: Mapping[str, Any], *, source: str, begun: CampaignConfig | bool = False) -> CampaignConfig:
    """Validate a mapping, as `load_config`; error messages begin with `source`.

    Raises:
        InputError: If a value is wrong; the message names the wrong keys, at most eight.
    """
    try:
        return CampaignConfig.model_validate(_with_added_fields(data, begun=begun) if begun else data)
    except ValidationError as error:
        lines = [_explain(detail) for detail in error.errors(include_url=False)]
        shown = lines[:8] + ([f"... and {len(lines) - 8} more"] if len(lines) > 8 else [])  # noqa: PLR2004 (a screenful)
        raise InputError("\n".join(f"{source}: {line}" for line in shown)) from None


def _with_added_fields(data: Mapping[str, Any], *, begun: CampaignConfig | bool) -> dict[str, Any]:
    """A config with the fields that are newer than its campaign: as in the campaign's config, if it is given."""
    result = dict(data)
    for name, info in CampaignConfig.model_fields.items():
        optional = get_origin(info.annotation) is not None  # a campaign has `system` or `systems`
        given = data.get(name, None if optional else {})
        for section in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(section, type) and issubclass(section, Section) and isinstance(given, Mapping):
                added = dict(section.added_fields)
                if isinstance(begun, CampaignConfig) and getattr(begun, name) is not None:
                    added = {field: getattr(getattr(begun, name), field) for field in added}
                result[name] = {**added, **given}
    return result


def _explain(detail: ErrorDetails) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    kind, got = detail["type"], _shown(detail["input"])
    if kind == "extra_forbidden":
        return f"unknown key `{where}`{_suggestion(where)}"
    if kind == "missing":
        return f"`{where}` is missing"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if kind == "model_type":
        message = "input should be a section: indented lines `key: value`"
    elif kind == "string_type" and detail["input"] is not None:
        message += "; put it in quotes"  # `NO` and `[NH4+]` are SMILES, but a boolean and a list in YAML
    if kind == "value_error" and isinstance(detail["input"], dict):
        return f"`{where}`: {message}" if where else message
    return f"`{where}`: got {got}; {message}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 (one line of a terminal)


def _suggestion(where: str) -> str:
    known = list(key_paths(CampaignConfig))
    leaf = where.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(where, known, n=1, cutoff=0.75)
    if not close:
        by_leaf = {path.rsplit(".", 1)[-1]: path for path in reversed(known)}
        close = [by_leaf[name] for name in difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.6)]
    return f"; did you mean `{close[0]}`?" if close else "; `al-engine init` writes a file with all keys"


def key_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All keys of a config section as dotted paths, including the keys of sections."""
    for name, info in model.model_fields.items():
        yield prefix + name
        for section in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(section, type) and issubclass(section, BaseModel):
                yield from key_paths(section, f"{prefix}{name}.")


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def differences(old: CampaignConfig, new: CampaignConfig) -> dict[str, tuple[Any, Any]]:
    """The keys, as dotted paths, whose values differ, each with its old and new value."""

    def flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                yield from flat(item, f"{prefix}.{key}" if prefix else key)
        else:
            yield prefix, value

    before, after = dict(flat(old.model_dump(mode="json"), "")), dict(flat(new.model_dump(mode="json"), ""))
    return {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def refuse_changes(old: CampaignConfig, new: CampaignConfig, *, source: str, directory: Path) -> None:
    """Refuse a config that differs from that of a begun campaign in a value that may not change.

    Args:
        old: The config that the campaign began with.
        new: The present config.
        source: Name of the present config in messages.
        directory: The campaign directory.

    Raises:
        InputError: If a value outside `MUTABLE` has changed; the message names each such key with both values.
    """
    changed = {key: pair for key, pair in differences(old, new).items() if not is_mutable(key)}
    if changed:
        lines = [
            f"{source}: `{key}` was {_shown(a)} when the campaign began, now {_shown(b)}"
            for key, (a, b) in changed.items()
        ]
        raise InputError(
            "\n".join(lines) + f"\nput the old values back, or {how_to_have(changed, directory)} "
            f"(only {_listed(MUTABLE)} may change)"
        )


def setting_text(key: str, value: Any) -> str:
    """A setting `KEY=VALUE` of `al-engine fork --set`, quoted for a shell."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return shlex.quote(f"{key}={text.removesuffix(chr(10)).removesuffix(chr(10) + '...')}")


def with_whole_paths(value: Any, key: str, *, folder: Path) -> Any:
    """A value of an option with whole paths of the files that it names.

    Args:
        value: The value, in which sections are dictionaries.
        key: Name of the option, without its sections.
        folder: Folder that relative paths start from.
    """
    if isinstance(value, dict):
        return {name: with_whole_paths(each, name, folder=folder) for name, each in value.items()}
    if isinstance(value, list):
        return [with_whole_paths(each, key, folder=folder) for each in value]
    return str((folder / value).resolve()) if key in OF_FILES and isinstance(value, str) else value


def how_to_have(changed: Mapping[str, tuple[Any, Any]], directory: Path) -> str:
    """Advice to a user who wants other values in a campaign that has begun: a fork, or a new campaign.

    Args:
        changed: The keys that may not change, each with its old and new value.
        directory: The campaign directory.
    """
    if any(key.startswith("labels.") for key in changed):  # labels of two levels of theory are never mixed
        return "start a new campaign in another directory"
    settings = [
        setting_text(key, with_whole_paths(value, key.rpartition(".")[2], folder=directory))
        for key, (_, value) in changed.items()
        if not any(key.startswith(f"{section}.") for section in changed)  # of a section that has changed as a whole
    ]
    return (
        "make a campaign with the new values that shares the labels: "
        f"`al-engine fork {typed(directory)} NEW --set {' --set '.join(settings)}`"
    )
