"""Test the files of the container image by their rules; `make image` builds and tries the image itself."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ctxfs.store.layout import Layout

ROOT = Path(__file__).parent.parent
CONTAINER = ROOT / "release" / "container"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    pairs = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in pairs]


def last_stage() -> Mapping[str, list[str]]:
    """Return the instructions of the stage that becomes the image, by name."""
    pairs = instructions()
    start = max(number for number, (name, _) in enumerate(pairs) if name == "FROM")
    stage: dict[str, list[str]] = {}
    for name, rest in pairs[start:]:
        stage.setdefault(name, []).append(rest)
    return stage


def test_image_has_a_user_a_volume_a_health_check_and_no_compiler() -> None:
    stage = last_stage()
    assert stage["USER"] == ["ctxfs"]
    assert stage["VOLUME"] == ["/data"]
    assert "ctxfs-healthy" in stage["HEALTHCHECK"][0]
    packages = {word for run in stage["RUN"] for word in run.split()}
    assert {"fuse3", "git", "python3", "socat", "tini"} <= packages
    assert not packages & {"gcc", "g++", "make", "libc6-dev", "python3-dev", "build-essential", "curl", "sudo"}
    assert all("rm -rf /var/lib/apt/lists/*" in run for run in stage["RUN"] if "apt-get" in run)
    assert {base for name, base in instructions() if name == "FROM"} == {"${BASE}", "${BASE} AS build"}


def test_build_gets_every_file_that_it_copies_and_no_other() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    admitted = [rule[1:] for rule in rules if rule.startswith("!")]
    assert all((ROOT / name).exists() for name in admitted), admitted
    assert {"ctxfs", "mounts", "mcp_server", "tools", "pyproject.toml", "setup.py", "release/container"} <= set(
        admitted
    )
    assert not {"secrets", ".git", ".venv", "tests"} & set(admitted)
    copied = [path for rest in last_stage()["COPY"] if "--from" not in rest for path in rest.split()[1:-1]]
    assert all((ROOT / path).exists() for path in copied), copied


def services() -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return value


def test_agents_have_a_token_and_a_network_and_neither_the_store_nor_the_page() -> None:
    document = services()
    agents = {name: service for name, service in document["services"].items() if service.get("secrets")}
    assert len(agents) == 2
    for name, service in agents.items():
        assert service["secrets"] == [name]
        assert service["environment"]["CTXFS_TOKEN_FILE"] == f"/run/secrets/{name}"
        assert service["networks"] == ["agents"]
        assert not any(volume.startswith("store:") for volume in service["volumes"])
        assert not {"ports", "privileged", "cap_add", "devices"} & set(service)
    assert set(document["secrets"]) == set(agents)
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_only_the_page_is_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in services()["services"].items() if "ports" in service}
    assert published == {"page": ["127.0.0.1:8300:8300"]}
    page, store = services()["services"]["page"], services()["services"]["store"]
    assert not set(page["networks"]) & set(store["networks"])
    for service in (page, store):
        assert "store:/data" in service["volumes"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_rules_of_the_compose_file_have_no_mistake(layout: Layout) -> None:
    words = [
        sys.executable,
        "-m",
        "ctxfs",
        "--store",
        str(layout.root),
        "policy",
        "validate",
        str(CONTAINER / "policy.toml"),
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["ctxfs-serve", "ctxfs-page"])
def test_scripts_of_the_image_have_no_syntax_error(name: str) -> None:
    done = subprocess.run(["bash", "-n", str(CONTAINER / "bin" / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_an_engine_the_script_reports_that_nothing_was_built(tmp_path: Path) -> None:
    command: Sequence[str] = [sys.executable, str(ROOT / "release" / "image.py")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 3
    assert "NO IMAGE WAS BUILT" in done.stderr
