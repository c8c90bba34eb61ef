"""The control plane under test, as a process of its own: started, asked and stopped over its API."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from control.errors import ControlError
from control.settings import Strategy
from topo import marks, userns

READY_TIMEOUT_S = 60.0


class ServiceError(ControlError):
    """The control plane did not start, or answered with an error; the text holds what it said."""


class ServiceProcess:
    """``shadowplane serve`` for one lab."""

    def __init__(
        self,
        topology: str,
        run_dir: Path,
        *,
        api: str = "127.0.0.1:8080",
        heartbeat_ms: float = 10.0,
        extra: tuple[str, ...] = (),
    ) -> None:
        self.notices_dir = run_dir / "notices"
        self.log = run_dir / "serve.log"
        self._api = api
        self._command = [
            *(sys.executable, "-m", "control", "serve", "--topology", topology, "--api", api),
            *("--strategy", Strategy.NONE.value, "--state", str(run_dir / "state"), "--notices", str(self.notices_dir)),
            *("--heartbeat-ms", f"{heartbeat_ms:g}", *extra),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(base_url=f"http://{api}", timeout=20.0, trust_env=False)

    def start(self) -> None:
        """Start the process; :meth:`wait_ready` waits for it.

        It carries a lab's mark, so that ``make clean`` finds it when whoever started it was killed. Raises
        :class:`ServiceError` when the API's port is taken: whoever answers there must not be taken for ours.
        """
        host, _, port = self._api.rpartition(":")
        try:
            socket.create_server((host, int(port))).close()
        except OSError as error:
            raise ServiceError(f"the API cannot listen on {self._api}: {error.strerror or error}") from error
        self.notices_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, marks.VARIABLE: marks.new_id()},
                start_new_session=True,
                pass_fds=userns.inherited_fds(),
            )

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until every switch has its pipeline and entries."""
        deadline = time.monotonic() + timeout_s
        waiting: Any = "it does not answer"
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise ServiceError(f"the control plane ended ({self._process.returncode}): {self._tail()}")
            try:
                answer = self._http.get("/readyz")
                if answer.status_code == 200:
                    return
                waiting = answer.json().get("waiting", answer.text)
            except httpx.HTTPError:
                pass  # not listening yet
            time.sleep(0.05)
        raise ServiceError(f"the control plane is not ready after {timeout_s:g} s: {waiting}; log: {self.log}")

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        return self._process.pid if self._process is not None else None

    def stop(self) -> None:
        """End it in order; SIGKILL if it does not. May be called twice."""
        self._http.close()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def get(self, path: str, **query: Any) -> Any:
        """GET a JSON document. Raises :class:`ServiceError`."""
        return self._checked("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST a JSON document. Raises :class:`ServiceError`."""
        return self._checked("POST", path, json=body)

    def text(self, path: str) -> str:
        """GET a page of text. Raises :class:`ServiceError`."""
        return str(self._answer("GET", path).text)

    def _checked(self, method: str, path: str, **more: Any) -> Any:
        return self._answer(method, path, **more).json()

    def _answer(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise ServiceError(f"the control plane at {self._api} does not answer: {error}; {self._tail()}") from error
        if answer.status_code >= 400:
            raise ServiceError(f"{method} {path}: {answer.status_code} {answer.text.strip()}")
        return answer

    def _tail(self, lines: int = 5) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return f"no log at {self.log}"
