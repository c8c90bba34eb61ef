"""Statistics of a running switch, from its data plane's control socket."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from engine.api import DatapathError
from engine.dataplane import Client

_PORT_DROPS = ("rx_dropped", "rx_errors", "tx_queue_dropped", "tx_failed", "tx_oversize")
_QUEUE_HEAD = ("port", "priority", "queued", "dropped", "packets/s", "Mbit/s", "depth")
_PORT_RATES = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")


def snapshot(client: Client) -> dict[str, Any]:
    """Counters of now, units in their names: of the pipeline since its program was loaded, of ports since the start."""
    hello = client.hello()
    state = client.device_state(keep_maxima=True)
    process = hello["statistics"]
    by_number = {port["port"]: port for port in hello["ports"]}
    ports = []
    for port in state.ports:
        more = by_number.get(port.port, {})
        ports.append(
            {
                "port": port.port,
                "interface": port.name,
                "up": port.up,
                "rx_packets": port.rx_packets,
                "rx_bytes": port.rx_bytes,
                "rx_dropped": port.rx_dropped,
                "rx_errors": port.rx_errors,
                "tx_packets": port.tx_packets,
                "tx_bytes": port.tx_bytes,
                "tx_queue_dropped": port.tx_dropped,
                "tx_failed": more.get("tx_failed", 0),
                "tx_oversize": more.get("tx_oversize", 0),
                "capture_lost": more.get("capture_lost", 0),
                "queue_packets": port.queue_depth,
                "queue_max_packets": port.queue_max,
                "queues": more.get("queues", []),
            }
        )
    out: dict[str, Any] = {
        "time_s": time.time(),
        "uptime_s": hello["uptime_ns"] / 1e9,
        "pid": hello["pid"],
        "program": hello["program"],
        "ports": ports,
        "device": {"backlog_packets": state.backlog, "backlog_dropped": state.dropped},
        "process": {
            **process,
            "packets_per_turn": process["packets"] / max(process["turns"], 1),
            **_usage(hello["pid"]),
        },
        "pipeline": {},
        "tables": [],
    }
    with contextlib.suppress(DatapathError):  # no program is loaded
        codec = client.codec
        out["pipeline"] = client.stats()
        for table, (entries, size, hits) in zip(codec.program.tables, client.occupancy(), strict=True):
            if table.key:
                row: dict[str, Any] = {"table": table.name, "entries": entries, "size": size}
                if table.direct_counter:
                    row["counted_packets"] = hits
                out["tables"].append(row)
    return out


def _usage(pid: int) -> dict[str, float]:
    """Memory (bytes) and processor time (seconds) of a process; empty when it is not ours to see."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return {}
    ticks = int(fields[11]) + int(fields[12])
    return {"memory_bytes": pages * os.sysconf("SC_PAGE_SIZE"), "cpu_s": ticks / os.sysconf("SC_CLK_TCK")}


def rates(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Per second, between two snapshots of one process: ports' packets and bytes, and processor share in percent."""
    seconds = max(after["time_s"] - before["time_s"], 1e-9)
    old = {port["port"]: port for port in before["ports"]}
    ports = {
        port["port"]: {f"{name}_per_s": (port[name] - old[port["port"]][name]) / seconds for name in _PORT_RATES}
        for port in after["ports"]
        if port["port"] in old
    }
    used = after["process"].get("cpu_s", 0.0) - before["process"].get("cpu_s", 0.0)
    return {"seconds": seconds, "ports": ports, "cpu_percent": 100 * used / seconds}


def render(now: dict[str, Any], rate: dict[str, Any] | None = None) -> str:
    """A table for people."""
    process = now["process"]
    lines = [
        f"program {now['program'] or '-'}",
        f"up {now['uptime_s']:.0f} s, pid {now['pid']}, "
        f"memory {process.get('memory_bytes', 0) / 2**20:.1f} MiB, cpu {process.get('cpu_s', 0):.2f} s"
        + (f" ({rate['cpu_percent']:.1f} %)" if rate else "")
        + f", {process['packets_per_turn']:.2f} packets a turn",
        "",
    ]
    head = ["port", "interface", "state", "rx packets", "rx bytes", "tx packets", "tx bytes", "queue", "dropped"]
    head += ["rx/s", "tx/s", "rx Mbit/s", "tx Mbit/s"] if rate else []
    rows = []
    for port in now["ports"]:
        dropped = sum(port[name] for name in _PORT_DROPS)
        row = [port["port"], port["interface"], "up" if port["up"] else "down"]
        row += [port["rx_packets"], port["rx_bytes"], port["tx_packets"], port["tx_bytes"]]
        row += [f"{port['queue_packets']}/{port['queue_max_packets']}", dropped]
        if rate:
            r = rate["ports"].get(port["port"], {f"{name}_per_s": 0.0 for name in _PORT_RATES})
            row += [f"{r['rx_packets_per_s']:.0f}", f"{r['tx_packets_per_s']:.0f}"]
            row += [f"{r['rx_bytes_per_s'] * 8e-6:.3f}", f"{r['tx_bytes_per_s'] * 8e-6:.3f}"]
        rows.append(row)
    lines += _grid(head, rows)
    queues = [{"port": port["port"], **queue} for port in now["ports"] for queue in port["queues"]]
    lines += ["", render_queues(queues)] if queues else []
    drops = {name: count for name, count in now["pipeline"].items() if count}
    drops |= {name: count for name, count in now["device"].items() if count}
    lines += ["", "pipeline  " + (", ".join(f"{name} {count}" for name, count in drops.items()) or "nothing yet")]
    if now["tables"]:
        lines += ["", *_grid(["table", "entries", "size", "counted packets"], [_table_row(t) for t in now["tables"]])]
    return "\n".join(lines)


def render_queues(queues: list[dict[str, Any]]) -> str:
    """A table of the queues that have settings, packets or drops."""
    if not queues:
        return "no queue has a rate, a depth, packets or drops"
    keys = ("port", "priority", "packets", "dropped", "rate_pps", "rate_mbps", "depth")
    optional = ("rate_pps", "rate_mbps", "depth")
    rows = [[(queue[key] or "-") if key in optional else queue[key] for key in keys] for queue in queues]
    return "\n".join(_grid(list(_QUEUE_HEAD), rows))


def _table_row(table: dict[str, Any]) -> list[Any]:
    return [table["table"], table["entries"], table["size"], table.get("counted_packets", "-")]


def _grid(head: list[str], rows: list[list[Any]]) -> list[str]:
    texts = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(head))]
    left = {"interface", "table", "state"}
    return [
        "  ".join(
            cell.ljust(width) if name in left else cell.rjust(width)
            for cell, width, name in zip(row, widths, head, strict=True)
        ).rstrip()
        for row in texts
    ]
