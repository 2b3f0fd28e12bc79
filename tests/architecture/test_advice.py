"""Advice in messages can be followed: what may not change in a begun campaign is advised for a new one."""

import ast
import re
from pathlib import Path

import pytest

from al_engine.config import CampaignConfig, is_mutable
from al_engine.config.reader import key_paths

ROOT = Path(__file__).parents[2]
ADVICE = re.compile(r"\b(?:raise|lower|set|change|increase|reduce) ((?:[a-z_0-9]+\.)+[a-z_0-9]+)")
ELSEWHERE = ("al-engine fork", "new campaign", "start over", "another directory", "--dir NEW")
BEFORE_THE_FIRST_PART = (
    "flows/session/initial_source.py",
    "flows/session/preflight.py",
    "samplers/building/",
    "samplers/classical/",
    "samplers/initial/",
    "samplers/reading/",
    "labelers/backends/",
)
"""Files whose messages stop a campaign that has not begun: its config may still be changed."""


def texts(path):
    """Every string of a file, f-strings with their values left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def found():
    """(file, text, option) of every piece of advice to change an option."""
    for room in ("al_engine", "flows", "models", "samplers", "labelers"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for text in texts(path):
                for option in ADVICE.findall(text):
                    if option in key_paths(CampaignConfig):
                        yield path.relative_to(ROOT).as_posix(), text, option


FOUND = list(found())


def test_there_is_advice():
    assert {"labels.time_limit_s", "labels.force_check.tolerance_mev_per_ang"} <= {option for _, _, option in FOUND}


@pytest.mark.parametrize(("file", "text", "option"), FOUND, ids=[f"{file}-{option}" for file, _, option in FOUND])
def test_it_can_be_followed(file, text, option):
    assert is_mutable(option) or file.startswith(BEFORE_THE_FIRST_PART) or any(words in text for words in ELSEWHERE), (
        text
    )
