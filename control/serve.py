"""Runs the service and its API in one asyncio process, until a signal ends it.

``python -m control.serve`` takes the flags of ``shadowplane serve``.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from control import startup
from control.errors import ControlError, InputError, PathError
from control.priority import raise_priority
from control.realtime import RealTime
from control.service import Service
from control.settings import Settings, parse_address
from topo import userns
from topo.load import load
from topo.spec import Topology, TopologyError

if TYPE_CHECKING:
    from control.api import Server

LOG = structlog.get_logger("shadowplane.serve")


def configure_logs(level: str, *, stream_json: bool) -> None:
    """Structured logs on stderr: readable on a terminal, JSON lines otherwise."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise InputError(f"unknown log level {level!r}")
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if stream_json else structlog.dev.ConsoleRenderer(colors=True)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr)
    logging.getLogger("finsy").setLevel(logging.CRITICAL + 1 if number > logging.DEBUG else logging.DEBUG)


def open_topology(name: str) -> Topology:
    """A builtin or a file; raises :class:`InputError` with the loader's own words."""
    try:
        return load(name)
    except (TopologyError, OSError) as error:
        raise InputError(str(error)) from error


def listen(address: str) -> list[socket.socket]:
    """The API's sockets; raises :class:`InputError` when the port is taken.

    Inside a lab's user namespace there is a second one, opened outside, so that people reach it as well.
    """
    host, port = parse_address(address)
    outside = userns.inherited_socket(host, port)
    try:
        return [*([outside] if outside is not None else []), socket.create_server((host, port))]
    except OSError as error:
        raise InputError(f"the API cannot listen on {address}: {error.strerror or error}") from error


def _close(sockets: list[socket.socket]) -> None:
    for item in sockets:
        item.close()


def prepare(settings: Settings) -> Service:
    """A service, checked but not connected; raises :class:`InputError`."""
    try:
        return Service(open_topology(settings.topology), settings)
    except PathError as error:
        raise InputError(str(error)) from error


async def serve(settings: Settings, address: str, *, favoured: bool = True) -> None:
    """Serve until SIGINT or SIGTERM. ``favoured``: the process has priority over others; said where not."""
    if not favoured and settings.realtime:
        LOG.warning("no priority over other processes: flips may be late on a busy machine", needs="CAP_SYS_NICE")
    sockets = listen(address)
    try:
        service = prepare(settings)
    except BaseException:
        _close(sockets)
        raise
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, main.cancel)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(service.run(), name="service")
            group.create_task(_answer(service, sockets), name="api")
            group.create_task(_announce(service, address, realtime=favoured), name="announce")
    except asyncio.CancelledError:
        LOG.info("stopped")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        _close(sockets)


async def _answer(service: Service, sockets: list[socket.socket]) -> None:
    """Task: the API. Its libraries take longer to load than most switches to restore, so both happen at the same time;
    who asks meanwhile is connected, and gets the answer a moment later."""
    server = await asyncio.to_thread(_server, service)
    await server.serve(sockets=sockets)


def _server(service: Service) -> Server:
    from control.api import Server, create

    return Server(create(service))


async def _announce(service: Service, address: str, *, realtime: bool) -> None:
    """Task: say how the start goes; then everything that lasts is there, and the thread may run in real time."""
    LOG.info("serving", api=f"http://{address}", topology=service.topology.name, strategy=service.strategy.value)
    ready = await service.wait_ready(10.0)
    startup.settle()  # also where a switch is missing: it may stay away for days
    while not ready:
        waiting = {n: s.last_error or s.state.value for n, s in service.fleet.sessions.items() if not s.ready}
        LOG.warning("still waiting for switches", waiting=waiting)
        ready = await service.wait_ready(10.0)
    service.lag.reset()
    LOG.info("ready", switches=len(service.fleet.sessions), groups=len(service.plan.groups))
    if realtime:
        await RealTime().run()


def run(settings: Settings, address: str) -> int:
    """Blocking; returns the exit code and prints errors for people."""
    code = 0
    favoured = settings.realtime and raise_priority()
    try:
        asyncio.run(serve(settings, address, favoured=favoured))
    except* InputError as group:
        print(f"shadowplane: {_first(group)}", file=sys.stderr)
        code = 2
    except* ControlError as group:
        print(f"shadowplane: {_first(group)}", file=sys.stderr)
        code = 1
    finally:
        startup.end()
    return code


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _main() -> None:
    from control.cli import main

    main(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    _main()
