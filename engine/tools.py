"""``python -m engine trace``, ``stats`` and ``queue`` (``shadowplane switch trace``, ...)."""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from engine.api import EngineError
from engine.flags import UsageError, default_socket
from engine.trace_events import Step

DEFAULT_ADDRESS = "127.0.0.1:9559"
TOOLS = ("trace", "stats", "queue")
Known = Mapping[str, Path]  # control sockets of switches that lie elsewhere than usual, by name or address
_TRACE_EXAMPLES = """examples:
  shadowplane switch trace 127.0.0.1:9559 --port 1 --count 20
  shadowplane switch trace s2 --port 1          a switch of the running lab
  shadowplane switch trace build/run/s1.sock --output json
  shadowplane switch trace prog.json --packet ffffffffffff00000000000108060001 --port 1
  shadowplane switch trace prog.json --pcap s1-eth1_in.pcap --entries s1-runtime.json
"""
_STATS_EXAMPLES = """examples:
  shadowplane switch stats 127.0.0.1:9559
  shadowplane switch stats build/run/s1.sock --watch
  shadowplane switch stats --output json | jq .pipeline
"""


_QUEUE_EXAMPLES = """examples:
  shadowplane switch queue 127.0.0.1:9559 --port 1 --priority 3 --rate-pps 100 --depth 10
  shadowplane switch queue --port 2 --rate-mbps 50
  shadowplane switch queue --clear
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parser(name: str, description: str, examples: str) -> _Parser:
    parser = _Parser(
        prog=f"shadowplane switch {name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    target = f"P4Runtime address, control socket or (in a lab) name of a running switch (default {DEFAULT_ADDRESS})"
    parser.add_argument("target", nargs="?", default=DEFAULT_ADDRESS, metavar="TARGET", help=target)
    choices = ("table", "json")
    parser.add_argument("--output", "-o", choices=choices, default="table", help="for people or for programs")
    return parser


def control_socket(target: str, known: Known) -> Path:
    """The control socket of a switch given by its address, by the socket itself, or as ``known`` has it.

    UsageError when there is none.
    """
    path = Path(target)
    if not path.exists() and ":" in target:
        path = default_socket(target)
    if not path.is_socket():
        path = known.get(target, path)
    if not path.is_socket():
        raise UsageError(f"{target}: no switch is running there (no control socket {path})")
    return path


def trace(arguments: Sequence[str], known: Known) -> int:
    """Print the way of packets through a program."""
    parser = _parser(
        "trace",
        "Shows packets' way through a program: parser, tables, actions, registers, deparser. Of a running switch, or "
        "(TARGET a program's JSON) in memory.",
        _TRACE_EXAMPLES,
    )
    add = parser.add_argument
    add("--port", type=int, metavar="N", help="port of arrival (running: only packets from there; default any, or 1)")
    add("--count", type=int, default=10, metavar="N", help="packets (default 10; with --pcap all)")
    add("--per-second", type=float, default=10.0, metavar="N", help="at most so many a second (default 10)")
    add("--packet", action="append", metavar="HEX", help="a frame to send through the program; repeatable")
    add("--pcap", metavar="FILE", help="frames to send through the program")
    add("--entries", metavar="FILE", help="table entries, in the JSON of the P4 tutorials' runtime files")
    add("--no-colour", action="store_true", help="plain text (as when piped)")
    found = parser.parse_args(arguments)
    colour = sys.stdout.isatty() and not found.no_colour
    offline = found.target.endswith(".json")
    if (found.packet or found.pcap or found.entries) and not offline:
        raise UsageError("--packet, --pcap and --entries need a program (TARGET ending in .json)")
    packets = _offline(found) if offline else _live(found, known)
    for number, (when, steps) in enumerate(packets):
        _print(steps, when, number, json_=found.output == "json", colour=colour)
    return 0


def _print(steps: Sequence[Step], when_ns: int | None, number: int, *, json_: bool, colour: bool) -> None:
    from engine.trace_text import as_json, render

    if json_:
        print(json.dumps({"time_ns": when_ns, "steps": as_json(steps)}, separators=(",", ":")), flush=True)
        return
    print(("\n" if number else "") + render(steps, colour=colour), flush=True)


def _offline(found: argparse.Namespace) -> Iterator[tuple[int | None, list[Step]]]:
    from engine.entries import EntriesError, load_entries
    from engine.tracing import OfflineTrace

    path = Path(found.target)
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if not found.packet and not found.pcap:
        raise UsageError("a program needs packets: --packet HEX or --pcap FILE")
    tracer = OfflineTrace(path)
    if found.entries:
        try:
            load_entries(Path(found.entries), tracer.switch)
        except EntriesError as error:
            raise UsageError(str(error)) from None
    port = 1 if found.port is None else found.port
    for text in found.packet or ():
        try:
            frame = bytes.fromhex(text)
        except ValueError:
            raise UsageError(f"--packet {text[:40]}: not hexadecimal") from None
        yield None, tracer.packet(port, frame)
    for when, frame in read_pcap(Path(found.pcap)) if found.pcap else ():
        yield when, tracer.packet(port, frame, when)


def _live(found: argparse.Namespace, known: Known) -> Iterator[tuple[int | None, list[Step]]]:
    from engine.dataplane import Client
    from engine.flags import Filter
    from engine.tracing import live, running_config

    if not 1 <= found.count <= 1_000_000 or not 0 < found.per_second <= 1e6:
        raise UsageError("--count is not within 1..1000000, or --per-second not within 0..1000000")
    with Client(control_socket(found.target, known)) as client:
        config = running_config(client)
        yield from live(client, config, Filter(found.port, found.count, found.per_second))


def read_pcap(path: Path) -> Iterator[tuple[int, bytes]]:
    """(time in ns, frame) of a classic pcap file with micro- or nanoseconds; UsageError says what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    orders = {b"\xd4\xc3\xb2\xa1": ("<", 1000), b"\x4d\x3c\xb2\xa1": ("<", 1)}
    orders |= {b"\xa1\xb2\xc3\xd4": (">", 1000), b"\xa1\xb2\x3c\x4d": (">", 1)}
    if data[:4] not in orders or len(data) < 24:
        raise UsageError(f"{path}: not a pcap file (pcapng: convert it with `editcap -F pcap`)")
    order, unit = orders[data[:4]]
    at = 24
    while at + 16 <= len(data):
        seconds, fraction, size, _original = struct.unpack_from(order + "IIII", data, at)
        if at + 16 + size > len(data):
            raise UsageError(f"{path}: the frame at byte {at} is cut off")
        yield seconds * 1_000_000_000 + fraction * unit, data[at + 16 : at + 16 + size]
        at += 16 + size


def stats(arguments: Sequence[str], known: Known) -> int:
    """Print statistics of a running switch."""
    parser = _parser("stats", "Statistics of a running switch.", _STATS_EXAMPLES)
    parser.add_argument("--watch", action="store_true", help="again and again, with rates, until Ctrl-C")
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="seconds between two (default 1)")
    found = parser.parse_args(arguments)
    if not 0.01 <= found.interval <= 3600:
        raise UsageError("--interval is not within 0.01..3600 s")
    from engine.dataplane import Client
    from engine.stats import rates, render, snapshot

    with Client(control_socket(found.target, known)) as client:
        before = snapshot(client)
        if not found.watch:
            print(json.dumps(before) if found.output == "json" else render(before))
            return 0
        while True:
            time.sleep(found.interval)
            client.refresh()
            now = snapshot(client)
            rate = rates(before, now)
            if found.output == "json":
                print(json.dumps({**now, "rates": rate}), flush=True)
            else:
                clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
                print(clear + render(now, rate) + "\n", flush=True)
            before = now


def queue(arguments: Sequence[str], known: Known) -> int:
    """Set rates and depths of a running switch's queues; without settings show them."""
    parser = _parser(
        "queue",
        "Rate and depth of the queues of a running switch's ports: of all eight priorities without --priority, of all "
        "ports without --port. They last until the switch ends. Without a setting it shows what is set.",
        _QUEUE_EXAMPLES,
    )
    add = parser.add_argument
    add("--port", type=int, metavar="N", help="only this port's queues")
    add("--priority", type=int, metavar="P", help="only the queues of this priority, 0..7; larger ones go first")
    add("--rate-pps", type=float, metavar="N", help="packets a second, 0: unlimited")
    add("--rate-mbps", type=float, metavar="N", help="Mbit a second, 0: unlimited")
    add("--depth", type=int, metavar="N", help="packets that may wait, 0: the port's (256)")
    add("--clear", action="store_true", help="take back all settings of these queues")
    found = parser.parse_args(arguments)
    given = {name: getattr(found, name) for name in ("rate_pps", "rate_mbps", "depth")}
    if found.clear and any(value is not None for value in given.values()):
        raise UsageError("--clear goes without --rate-pps, --rate-mbps and --depth")
    if found.clear:
        given = dict.fromkeys(given, 0)
    from engine.dataplane import Client
    from engine.stats import render_queues, snapshot

    with Client(control_socket(found.target, known)) as client:
        if any(value is not None for value in given.values()):
            client.queue(found.port, found.priority, **given)
        rows = [
            {"port": port["port"], **row}
            for port in snapshot(client)["ports"]
            for row in port["queues"]
            if found.port in (None, port["port"]) and found.priority in (None, row["priority"])
        ]
    print(json.dumps(rows) if found.output == "json" else render_queues(rows))
    return 0


def main(name: str, arguments: Sequence[str], known: Known | None = None) -> int:
    """Run one of :data:`TOOLS`; 2 and one line on standard error for anything that the user has to change."""
    try:
        return {"trace": trace, "stats": stats, "queue": queue}[name](arguments, known or {})
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # piped into head
        sys.stderr.close()
        return 0
    except (UsageError, EngineError, OSError, ValueError) as error:
        print(f"shadowplane switch {name}: {error}", file=sys.stderr)
        return 2
