"""The switch as a process: starts (or takes over) the native data plane and serves P4Runtime and gNMI for it.

The data plane is a separate process. A clean stop ends both; when only this one dies, forwarding goes on, and a new
server with the same ``--control-socket`` finds program, entries and its own state again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from engine.api import DatapathError, EngineError, ProgramError, ProgramInfo
from engine.dataplane import Client
from engine.flags import Settings, Tls, UsageError, parse, program_name
from engine.gnmi import MAX_SUBSCRIPTIONS, GnmiService
from engine.p4rt.backend import Backend, ProcessBackend, device_json
from engine.p4rt.budget import MAX_READS
from engine.p4rt.device import Device
from engine.p4rt.errors import P4Error
from engine.p4rt.fastpath import ShortWay, available
from engine.p4rt.service import WRITE, P4RuntimeService
from engine.p4rt.streams import MAX_STREAMS
from engine.p4rt.stubs import p4i, p4r
from engine.priority import raise_priority
from engine.process import spawn
from engine.realtime import RealTime

log = logging.getLogger("engine")

EXIT_USAGE = 2
HEARTBEAT_REGISTER = "liveness_last_seen"  # its presence tells that a program understands the generator's commands
DEFER_REGISTER = "liveness_held"  # ... and that its heartbeats may wait, which its answers own up to
RELAX_REGISTER = "liveness_relaxed"  # ... and that a command tells how much later the next one comes
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
    ("grpc.max_receive_message_length", 128 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),  # a peer that vanished loses its stream, hence its primacy
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
_WORKERS = MAX_STREAMS + MAX_SUBSCRIPTIONS + MAX_READS + 32  # whoever holds a thread for long, and short calls beside
_STACK_BYTES = 512 << 10
_SWITCH_INTERVAL_S = 0.0005  # a long read must not keep a flip waiting for the interpreter's default 5 ms
_GRACE_S = 0.5


@dataclass(slots=True)
class Serving:
    """A running gRPC server; ``port`` is the one it listens on (0 for Unix sockets)."""

    grpc: grpc.Server
    device: Device
    gnmi: GnmiService
    port: int
    short_way: ShortWay | None

    def start(self) -> None:
        """Answer from now on."""
        if self.short_way is not None:
            self.short_way.start()
        else:
            self.grpc.start()

    def stop(self, grace_s: float = _GRACE_S) -> None:
        self.gnmi.close()
        self.device.close()
        self.grpc.stop(grace_s).wait(grace_s + 2)  # a call that hangs must not keep the process


class Listener:
    """A gRPC server that has its port but no services yet; raises :class:`UsageError` when the port is taken."""

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        threading.stack_size(_STACK_BYTES)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="grpc")
        self.server = grpc.server(pool, options=_OPTIONS, maximum_concurrent_rpcs=_WORKERS)
        try:
            if tls is None:
                self.port = self.server.add_insecure_port(address)
            else:
                self.port = self.server.add_secure_port(address, _credentials(tls))
        except RuntimeError:
            self.port = 0
        if self.port == 0 or (address.startswith("unix") and self.port != 1):
            raise UsageError(f"cannot listen on {address}: {_why(address)}")

    def serve(self, backend: Backend, device_id: int) -> Serving:
        """Answer requests for ``backend``."""
        device = Device(backend, device_id)
        gnmi = GnmiService(lambda keep: backend.device_state(keep_maxima=keep), backend.enable_ports)
        device.on_port.append(gnmi.on_port)
        service = P4RuntimeService(device)
        self.server.add_generic_rpc_handlers((service.handler(), gnmi.handler()))
        short_way = None
        if available():
            short_way = ShortWay(self.server, WRITE, device.write_quickly, service.writing())
        return Serving(self.server, device, gnmi, self.port, short_way)


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    if tls.client_ca is None:
        return grpc.ssl_server_credentials([pair])
    return grpc.ssl_server_credentials([pair], tls.client_ca.read_bytes(), require_client_auth=True)


def _why(address: str) -> str:
    """What the system says about binding ``address``, for the error message."""
    host, _, port = address.rpartition(":")
    if address.startswith("unix"):
        return "the socket cannot be created"
    try:
        family, kind, _proto, _name, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        return str(error.strerror or error)
    return "gRPC refused it (are certificate and key valid?)"


def read_p4info(path: Path) -> p4i.P4Info:
    """P4Info from text or binary protobuf; :class:`UsageError` when it is neither."""
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError

    data = path.read_bytes()
    try:
        return text_format.Parse(data.decode(), p4i.P4Info())
    except (text_format.ParseError, UnicodeDecodeError) as text_error:
        try:
            return p4i.P4Info.FromString(data)
        except DecodeError:
            raise UsageError(f"{path}: not a P4Info ({text_error})") from None


class _DataPlane:
    """The switch process: ours, or one that a former server left behind."""

    def __init__(self, settings: Settings) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = _claim(settings.control_socket)
        self.client = self._take_over(settings) or self._start(settings)
        self._pid: int = self.client.hello()["pid"]

    def _take_over(self, settings: Settings) -> Client | None:
        if not settings.control_socket.exists():
            return None
        try:
            client = Client(settings.control_socket)
        except DatapathError:
            return None  # a stale file; the new process replaces it
        if not settings.adopt:
            log.info("ending the data plane that a former server left behind")
            with contextlib.suppress(DatapathError):
                client.shutdown()
            client.close()
            _until_gone(settings.control_socket)
            return None
        have = {entry["port"]: entry["name"] for entry in client.hello()["ports"]}
        for port, name in have.items():
            if settings.interfaces.get(port) != name:
                client.remove_port(port)
        for port, name in settings.interfaces.items():
            if have.get(port) != name:
                client.add_port(port, name)
        client.pcap(settings.pcap)
        log.info("took over the data plane at %s", settings.control_socket)
        return client

    def _start(self, settings: Settings) -> Client:
        self.process = spawn(
            settings.interfaces,
            settings.control_socket,
            cpu_port=settings.cpu_port,
            pktgen_port=settings.pktgen_port,
            pcap=settings.pcap,
            pcap_limit_mib=settings.pcap_limit_mib,
            extra=("--cores", str(settings.cores)) if settings.cores else (),
            log_file=settings.log_file or settings.control_socket.with_suffix(".log"),
            log_level=settings.log_level,
        )
        return Client(settings.control_socket)

    def alive(self) -> bool:
        if self.process is not None:
            return self.process.poll() is None
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        return True

    def stop(self) -> None:
        with contextlib.suppress(DatapathError):
            self.client.shutdown()
        self.client.close()
        if self.process is not None:
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._lock)


def _claim(path: Path) -> int:
    """A lock on the data plane's socket, held as long as we run: only what nobody serves any more is taken over.

    Switches in several network namespaces may have the same address, hence the same socket by default.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"--control-socket {path}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise UsageError(
            f"the control socket {path} belongs to a running switch: end it, or name another with --control-socket"
        ) from None
    return lock


def _until_gone(path: Path) -> None:
    for _ in range(200):
        try:
            Client(path).close()
        except DatapathError:
            return
        time.sleep(0.01)  # no child of this process, so nothing tells of its end


def _check_interfaces(settings: Settings) -> None:
    for port, name in settings.interfaces.items():
        try:
            socket.if_nametoindex(name)
        except OSError:
            raise UsageError(f"-i {port}@{name}: there is no interface {name}") from None


def _check_captures(settings: Settings) -> None:
    if settings.pcap is not None and not (settings.pcap.is_dir() and os.access(settings.pcap, os.W_OK | os.X_OK)):
        raise UsageError(f"--pcap {settings.pcap}: not a directory that can be written to")


def _configure_logging(settings: Settings) -> None:
    level = getattr(logging, settings.log_level.upper())
    handlers: list[logging.Handler] = []
    if settings.log_file is not None:
        try:
            handlers.append(logging.FileHandler(settings.log_file))
        except OSError as error:
            raise UsageError(f"--log-file {settings.log_file}: {error.strerror}") from None
    if settings.log_console or not handlers:
        console = logging.StreamHandler()
        console.setLevel(level if settings.log_console else logging.WARNING)
        handlers.append(console)
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", handlers=handlers)


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _configure_logging(settings)
    _check_interfaces(settings)
    _check_captures(settings)
    urgent = raise_priority()  # before there are threads, which inherit it
    listener = Listener(settings.address, settings.tls)
    plane = _DataPlane(settings)
    serving: Serving | None = None
    try:
        backend = ProcessBackend(plane.client, lambda client, info: _generate(settings, client, info))
        serving = listener.serve(backend, settings.device_id)
        known = serving.device.has_pipeline() if settings.p4info else plane.client.program is not None
        if settings.config is not None and not known:
            _load(settings.config, settings.p4info, backend, serving.device)
        elif serving.device.has_pipeline() and plane.client.program is not None:
            _generate(settings, plane.client, plane.client.program)
        if settings.trace is not None:
            _start_trace(settings, plane.client, backend, serving.device)
        serving.start()
        log.info("serving P4Runtime and gNMI on %s, device id %d", settings.address, settings.device_id)
        return _wait(stop, plane, RealTime(urgent and settings.realtime))
    finally:
        if serving is not None:
            serving.stop()
        plane.stop()


def _load(config: Path, p4info: Path | None, backend: ProcessBackend, device: Device) -> None:
    """The program of the command line; what is wrong with it names the file."""
    try:
        data = config.read_bytes()
        if p4info is not None:
            device.install(p4r.ForwardingPipelineConfig(p4info=read_p4info(p4info), p4_device_config=data))
        else:
            log.warning("no --p4info: the program runs, and P4Runtime waits for a controller's pipeline config")
            backend.load(device_json(data))
    except ProgramError as error:
        raise UsageError(f"{config}: {error}") from error
    except P4Error as error:
        raise UsageError(f"{config}: {error.message}") from error


def _generate(settings: Settings, client: Client, program: ProgramInfo) -> None:
    """Switch the packet generator on for programs that know its commands, or when it was asked for."""
    registers = {register.name for register in program.registers}
    wanted = settings.pktgen_forced or HEARTBEAT_REGISTER in registers
    interval_us = settings.pktgen_interval_us if wanted else 0
    relaxed = settings.pktgen_relaxed if RELAX_REGISTER in registers else 1
    client.pktgen(interval_us, port_down=interval_us > 0, defer=DEFER_REGISTER in registers, relaxed=relaxed)


def _start_trace(settings: Settings, client: Client, backend: ProcessBackend, device: Device) -> None:
    """Print packets' ways, of the program that runs now or else of the first that is loaded."""
    loaded = threading.Event()
    if device.has_pipeline():
        loaded.set()
    backend.on_loaded.append(loaded.set)

    def follow() -> None:
        from engine.trace_text import render
        from engine.tracing import live, running_config

        assert settings.trace is not None
        loaded.wait()
        while True:
            try:
                config = running_config(client)
                break
            except EngineError:  # the server keeps the config a moment after the program runs
                time.sleep(0.05)
        try:
            for _time, steps in live(client, config, settings.trace):
                print(render(steps, colour=sys.stdout.isatty()), flush=True)
        except (EngineError, OSError, ValueError) as error:
            log.warning("the trace ends: %s", error)

    threading.Thread(target=follow, name="trace", daemon=True).start()


def _wait(stop: threading.Event, plane: _DataPlane, realtime: RealTime) -> int:
    while not stop.wait(0.5):
        realtime.turn()
        if not plane.alive():
            log.error("the data plane ended unexpectedly")
            return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a switch; 2 and one line on standard error for anything that the user has to change."""
    try:
        return run(parse(sys.argv[1:] if arguments is None else arguments))
    except (UsageError, EngineError, OSError) as error:
        print(f"{program_name()}: {error}", file=sys.stderr)
    except P4Error as error:
        print(f"{program_name()}: {error.message}", file=sys.stderr)
    return EXIT_USAGE
