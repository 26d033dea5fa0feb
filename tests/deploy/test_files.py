"""The Dockerfile and the compose file: what they promise, beyond what their linters know."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import requires
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from packaging.requirements import Requirement
from ruamel.yaml import YAML

import bot

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
# Instructions on one line each, without comments.
INSTRUCTIONS = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in INSTRUCTIONS if line.startswith(f"{name} ")]


@pytest.fixture(scope="module")
def compose() -> Any:
    return YAML(typ="safe").load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def service(compose: Any) -> Any:
    return compose["services"]["bot"]


def test_there_is_one_base_image_and_it_has_a_version():
    bases = [line.split()[0] for line in instructions("FROM")]
    assert [base for base in bases if base != "python"] == ["python:3.13-slim"]


def test_what_is_installed_is_pinned_by_hash_from_whatever_index_there_is():
    installs = re.findall(r"pip (?:--python \S+ )?install ([^&\n]*)", "\n".join(INSTRUCTIONS))
    assert len(installs) == 3
    assert [i for i in installs if "--require-hashes" not in i] == [
        "--no-cache-dir --no-deps dist/mmbot-*.whl"
    ]
    assert not re.search("(?i)https?://(?!127)|--(extra-)?" + "index|--find-" + "links", DOCKERFILE)


def test_the_build_backend_is_taken_from_the_lock_with_all_that_it_needs():
    wanted = re.search(r"wanted = /\^\(([^)]*)\)==/", DOCKERFILE)
    assert wanted is not None
    names = set(wanted[1].split("|"))
    needed = {"hatchling"}
    for name in sorted(names):
        for text in requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed.add(requirement.name)
    assert names == needed
    lock = (ROOT / "requirements-dev.lock").read_text("utf-8")
    assert {name for name in names if f"\n{name}==" in lock} == names


def test_it_runs_as_a_number_that_is_not_root_and_stops_on_sigterm(service):
    assert instructions("USER") == ["10001:10001"]
    assert service["user"] == "10001:10001"
    assert instructions("STOPSIGNAL") == [service["stop_signal"]] == ["SIGTERM"]
    assert INSTRUCTIONS.index("USER 10001:10001") < INSTRUCTIONS.index('ENTRYPOINT ["mmbot"]')


def test_the_container_can_do_little(service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "network_mode" not in service
    assert service["mem_limit"] == service["memswap_limit"]
    assert service["pids_limit"] > 0
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108


def test_ports_are_published_on_loopback_only(service):
    assert service["ports"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_runs_are_kept_and_the_config_is_only_read(compose, service):
    runs, state, config = service["volumes"]
    assert [runs["target"], state["target"]] == instructions("VOLUME")
    assert "MMBOT_STATE=" + state["target"] in "\n".join(instructions("ENV"))
    assert runs["target"] == f"{instructions('WORKDIR')[-1]}/runs"
    assert runs["source"] in compose["volumes"]
    assert config["read_only"] is True
    assert (ROOT / "deploy" / config["source"]).resolve() == ROOT / "config"


def test_the_command_names_a_config_that_exists(service):
    assert json.loads(instructions("CMD")[-1]) == service["command"]
    command, path = service["command"]
    assert command == "run"
    assert (ROOT / "config" / Path(path).relative_to("/config")).is_file()


def test_the_image_carries_the_version_of_the_bot(service):
    assert service["image"] == f"mmbot:{bot.__version__}"


def test_only_what_is_copied_enters_the_build():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:].rstrip("/") for rule in rules if rule.startswith("!")}
    copied = [c.split()[:-1] for c in instructions("COPY") if not c.startswith("--from")]
    assert allowed == {name for names in copied for name in names}


class Health(BaseHTTPRequestHandler):
    """Answers /healthz with the status that stands in `status`."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def healthcheck(port: int) -> int:
    """The exit code of the image's health check, asked of another port."""
    _, _, command = next(line for line in INSTRUCTIONS if "HEALTHCHECK" in line).partition("CMD ")
    python, *arguments = json.loads(command)
    assert python == "python"
    code = [argument.replace("8787", str(port)) for argument in arguments]
    proxy = {"http_proxy": "127.0.0.1:1"}  # must not be asked
    done = subprocess.run(
        [sys.executable, *code], env=proxy, stderr=subprocess.DEVNULL, timeout=30, check=False
    )
    return done.returncode


def test_the_health_check_follows_the_answer(port, monkeypatch):
    assert healthcheck(port) == 0
    monkeypatch.setattr(Health, "status", 503)
    assert healthcheck(port) != 0


def test_the_health_check_fails_when_nobody_listens():
    with socket.socket() as taken:  # bound and not listening: refuses connections
        taken.bind(("127.0.0.1", 0))
        assert healthcheck(taken.getsockname()[1]) != 0


# --- the watchdog ----------------------------------------------------------------------------

UNIT = ROOT / "deploy" / "mmbot-watchdog@.service"


@pytest.fixture(scope="module")
def watchdog(compose: Any) -> Any:
    return compose["services"]["watchdog"]


def test_the_watchdog_lives_apart_from_the_bot_and_shares_its_state(service, watchdog):
    assert not {"depends_on", "pid", "network_mode", "links"} & watchdog.keys()
    assert watchdog["restart"] == "unless-stopped"
    assert watchdog["image"] == service["image"]
    assert watchdog["user"] == service["user"]  # or neither may read the other's heartbeat
    state = {mount["source"]: mount for mount in service["volumes"]}["state"]
    assert state in watchdog["volumes"]
    assert watchdog["profiles"]  # on paper there is nothing to watch


def test_the_watchdog_can_do_little(watchdog):
    for key in ("read_only", "cap_drop", "security_opt"):
        assert watchdog[key]
    assert watchdog["mem_limit"] == watchdog["memswap_limit"]
    assert "ports" not in watchdog
    writable = [mount["target"] for mount in watchdog["volumes"] if not mount.get("read_only")]
    assert writable == ["/var/lib/mmbot/state"]


def test_the_watchdogs_config_is_a_real_one(watchdog):
    command, path = watchdog["command"]
    assert command == "watchdog"
    assert (ROOT / "config" / Path(path).relative_to("/config")).is_file()


def test_the_unit_comes_back_and_does_not_go_with_the_bot():
    lines = [line for line in UNIT.read_text("utf-8").splitlines() if not line.startswith("#")]
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    assert (said["Restart"], said["StartLimitIntervalSec"]) == ("always", "0")
    assert not {"BindsTo", "PartOf", "Requires"} & said.keys()
    assert said["Environment"] == "MMBOT_STATE=/var/lib/mmbot/state"
    assert said["ExecStart"].split()[1:] == ["watchdog", "/etc/mmbot/%i.yaml"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path):
    program = tmp_path / "mmbot"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8").replace("/opt/mmbot/bin/mmbot", str(program))
    copy.write_text(text.replace("User=mmbot\nGroup=mmbot\n", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)],  # noqa: S607 - wherever it is
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
