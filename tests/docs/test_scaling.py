"""The configs of docs/scaling.md are configs, and the files that it names are well-formed."""

import subprocess

import pytest
import yaml
from docs_pages import PAGES, ROOT

from al_engine.config.reader import parse_config

CONFIGS = PAGES["docs/scaling.md"].blocks("yaml")


@pytest.mark.parametrize("text", CONFIGS)
def test_a_config_to_copy_is_accepted(text):
    config = parse_config(f"name: a\nsystem: {{smiles: O}}\n{text}", source="docs/scaling.md")
    given = yaml.safe_load(text)["execution"]
    assert config.execution.executor == given["executor"]
    for kind, resources in given.get("stages", {}).items():
        for key, value in resources.items():
            if kind != "all":
                found = getattr(config.execution.resources(kind), key)
                assert (list(found) if key == "directives" else found) == value


def test_there_is_a_config_for_each_executor():
    assert {yaml.safe_load(text)["execution"]["executor"] for text in CONFIGS} == {"local", "dask", "ray"}


def test_the_batch_script_is_a_script():
    script = ROOT / "examples" / "slurm.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "#SBATCH --signal=B:TERM@" in script.read_text()


def test_the_services_of_the_compose_file_depend_on_each_other():
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        for other, condition in service.get("depends_on", {}).items():
            assert other in services, name
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[other], other
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        assert ":latest" not in service["image"]
