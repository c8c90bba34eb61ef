"""The command line: exit codes, output forms, help with examples, nothing heavy for --help."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from control.commands._common import Output, show
from tests.ports import free_base

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = ("serve", "lab", "switch", "paths", "flip", "revert", "status", "ledger", "history", "train", "evaluate")


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "110"}
    environment.pop("SHADOWPLANE_API", None)
    command = [sys.executable, "-m", "control", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"  {name}" in done.stdout


@pytest.mark.parametrize("name", ["serve", "lab", "paths", "flip", "revert", "status", "ledger"])
def test_each_help_has_examples(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0 and f"  shadowplane {name}" in done.stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, control.cli\n"
        "heavy = {'grpc', 'finsy', 'fastapi', 'sqlalchemy', 'numpy', 'rustworkx', 'uvicorn', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_paths_offline_as_table_and_json() -> None:
    table = run("paths", "--topology", "diamond", "--switch", "s1")
    assert table.returncode == 0 and "s1-s2-s4" in table.stdout and "node" in table.stdout
    assert "\x1b[" not in table.stdout
    rows = json.loads(run("paths", "-t", "diamond", "-o", "json").stdout)
    one = next(row for row in rows if (row["switch"], row["destination"]) == ("s1", "h4"))
    assert {one["primary"], one["shadow"]} == {"s1-s2-s4", "s1-s3-s4"} and one["label"] >= 16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("paths", "-t", "nowhere"), "nowhere"),
        (("serve", "--topology", "nowhere", "--api", "127.0.0.1:0"), "nowhere"),
        (("serve", "--strategy", "hope"), "hope"),
        (("serve", "--api", "nonsense"), "HOST:PORT"),
        (("serve", "--heartbeat-ms", "-1"), "heartbeat"),
        (("flip",), "--switch, --destination or --element"),
        (("fly",), "fly"),
        (("status", "--no-such-option"), "no-such-option"),
    ],
)
def test_wrong_input_is_exit_code_2_and_says_why(arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr


def test_no_service_is_exit_code_1_and_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    done = run("status", "--api", f"127.0.0.1:{port}")
    assert done.returncode == 1 and "shadowplane serve" in done.stderr


def test_a_taken_api_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        done = run("serve", "--topology", "diamond", "--api", f"127.0.0.1:{port}")
    assert done.returncode == 2 and "cannot listen" in done.stderr and str(port) in done.stderr


@pytest.mark.parametrize("wait_s", [0.0, 0.15, 0.4])
def test_serve_ends_on_sigterm_while_no_switch_answers(wait_s: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    command = [sys.executable, "-m", "control", "serve", "-t", "abilene", "--api", f"127.0.0.1:{port}",
               "--base-port", str(free_base(11))]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if '"serving"' in line:
                break
        time.sleep(wait_s)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def test_dry_runs_change_nothing(tmp_path: Path) -> None:
    done = run("serve", "-t", "abilene", "--dry-run", "-o", "json", "--state", str(tmp_path / "state"))
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 11 and all(row["entries"] > 20 for row in rows)
    assert not (tmp_path / "state").exists()
    done = run("lab", "-t", "diamond", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0 and "s4" in done.stdout and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered(shell: str) -> None:
    done = run("--show-completion", shell)
    assert done.returncode == 0 and "_SHADOWPLANE_COMPLETE" in done.stdout, done.stderr


def test_completion_knows_commands_and_values() -> None:
    def complete(words: str, place: int) -> list[str]:
        asked = {"_SHADOWPLANE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
        command = [sys.executable, "-m", "control"]
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, **asked}, capture_output=True, text=True, check=False
        ).stdout.split()

    assert complete("shadowplane fl", 1) == ["flip"]
    assert complete("shadowplane serve --strategy re", 3) == ["reactive"]


def test_somebody_else_on_the_port_is_told_apart() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None:
            return None

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = run("status", "--api", f"127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.returncode == 1 and "no Shadowplane service" in done.stderr and "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """What ``shadowplane paths -t abilene | head -1`` does."""
    command = [sys.executable, "-m", "control", "paths", "-t", "abilene"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None and started.stderr is not None
        started.stdout.close()
        assert started.stderr.read() == ""


def test_a_narrow_terminal_divides_long_texts_and_no_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    text = "receive power falls " * 20
    show([{"element": "s1-s2", "mode": "link_failure", "probability": 0.999958, "explanation": text}], Output.TABLE)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "probability" in shown and "link_failure" in shown and "0.99996" in shown
    assert shown.count("receive") == 20 and max(map(len, shown.splitlines())) <= 60
