"""Telemetry ingest: gNMI samples and port-report digests become :mod:`ml.schema` samples in one bounded queue.

Nothing here judges. A queue that is full drops its *oldest* sample (the newest matters) and counts it.
Sample times are seconds since the epoch, from the switch where it tells a plausible one, else of arrival.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, nan
from typing import Any, TypeAlias

import grpc
import structlog
from finsy import GRPCCredentialsTLS
from finsy.proto import gnmi
from google.protobuf.message import DecodeError

from control.clock import Clock
from control.flip import channel_options
from control.gnmi_wire import Template
from ml.schema import DeviceSample, PortSample
from topo.spec import Endpoint, Switch, Topology

LOG = structlog.get_logger("shadowplane.telemetry")
_PLAUSIBLE_S = 5.0
_SUBSCRIBE = "/gnmi.gNMI/Subscribe"


@lru_cache(maxsize=1 << 16)
def endpoint(element: str) -> Endpoint:
    """The end that a port element ("s1:2") names."""
    switch, _, port = element.rpartition(":")
    return Endpoint(switch, int(port))


@dataclass(frozen=True, slots=True)
class PortEvent:
    """A port changed: ``alive`` as its heartbeats tell (digest) or ``up`` as its carrier does (gNMI)."""

    element: str  # "s1:2"
    time_s: float
    up: bool
    source: str  # "heartbeat" or "carrier"
    clock_s: float | None = None  # the data plane's own clock, where it told


Item: TypeAlias = PortSample | DeviceSample | PortEvent


@dataclass(slots=True)
class Inbox:
    """The bounded queue between ingest and steering."""

    limit: int = 8192
    dropped: int = 0
    received: int = 0
    _items: deque[Item] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _since: float = 0.0

    def put(self, item: Item) -> None:
        self.received += 1
        if len(self._items) >= self.limit:
            self._items.popleft()
            self.dropped += 1
        if not self._items:
            self._since = time.perf_counter()
        self._items.append(item)
        self._wake.set()

    def take(self) -> tuple[float, list[Item]]:
        """Everything that is waiting, oldest first, and when the oldest arrived (``time.perf_counter``)."""
        items = list(self._items)
        self._items.clear()
        self._wake.clear()
        return (self._since if items else time.perf_counter()), items

    async def wait(self, timeout_s: float) -> None:
        """Until something is there, or the time is over.

        Not ``asyncio.wait_for``: up to Python 3.11 it loses a cancellation that comes with the wake-up
        (https://github.com/python/cpython/issues/86296), and something wakes this hundreds of times a second.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()

    def wake(self) -> None:
        self._wake.set()


NOT_OFFERED = "not offered"  # a switch without gNMI
SWITCHED_OFF = "off"  # by the configuration
EVENT_PERIODIC, EVENT_CHANGE, EVENT_DEAD, EVENT_ALIVE = range(4)


def line_rates(topology: Topology, switch: Switch) -> dict[int, float]:
    """What the topology says of a switch's links, in bit/s by port; ports without a known rate are left out."""
    ends = ((end, link) for link in topology.links for end in (link.a, link.b))
    return {end.port: link.rate_mbps * 1e6 for end, link in ends if end.switch == switch.name and link.rate_mbps}


def port_ends(topology: Topology) -> list[tuple[str, int]]:
    """(switch, port) of all ports in the order that everything that numbers ports goes by: reports of ports and of
    flows, and the history that keeps both."""
    return [(switch.name, port) for switch in topology.switches for port in sorted(topology.ports(switch.name))]


class RemoteClock:
    """A data plane's clock in epoch seconds: what travelled fastest tells the offset, which may drift by 100 ppm."""

    DRIFT = 1e-4

    def __init__(self) -> None:
        self._offset = inf
        self._at = 0.0  # the remote clock's last reading

    def translate(self, clock_s: float, now_s: float) -> float:
        """The time of a reading that arrived at ``now_s``; never later than that."""
        step = clock_s - self._at
        if step < -_PLAUSIBLE_S:  # the switch started anew
            self._offset = inf
        self._at = max(clock_s, self._at) if step >= -_PLAUSIBLE_S else clock_s
        self._offset = min(now_s - clock_s, self._offset + self.DRIFT * max(0.0, step))
        return clock_s + self._offset


_PORT_FIELDS = {
    "in-errors": "rx_errors_total",
    "out-octets": "tx_bytes_total",
    "out-pkts": "tx_packets_total",
    "out-discards": "tx_dropped_total",
    "port-speed": "rate_bps",
    "max-queue-len": "queue_max_packets",
    "fec-corrected-bits": "corrected_total",
    "fec-uncorrectable-words": "uncorrected_total",
}
_PARENT_FIELDS = {"input-power": "rx_power_dbm", "pre-fec-ber": "pre_fec_ber"}


class Decoder:
    """Turns gNMI notifications of one switch into samples; remembers what each path means.

    Unknown paths are ignored: a target may report more than is asked for.
    """

    def __init__(self, switch: str) -> None:
        self.switch = switch
        self.malformed = 0  # values that are not what their path promises; left out
        self._meaning: dict[bytes, tuple[str, str] | None] = {}
        self._memory_physical = nan
        self._template: Template | None = None
        self._known: Sequence[tuple[str, str] | None] = ()

    def decode(self, note: gnmi.Notification, now_s: float) -> list[PortSample | DeviceSample]:
        """Samples of one notification. ``now_s`` is the time of arrival."""
        meanings = self._meanings(note)
        values: list[Any] = []
        for update in note.update:
            try:
                values.append(_value(update.val))
            except ValueError:
                values.append(None)
        return self._samples(note.timestamp, meanings, values, now_s)

    def decode_bytes(self, data: bytes, now_s: float) -> list[PortSample | DeviceSample] | None:
        """As :meth:`decode`, of a serialized ``SubscribeResponse``; None when it is no notification."""
        if self._template is not None:
            read = self._template.read(data)
            if read is not None:
                return self._samples(read[0], self._known, read[1], now_s)
        try:
            reply = gnmi.SubscribeResponse.FromString(data)
        except DecodeError:
            self.malformed += 1
            return None
        if reply.WhichOneof("response") != "update":
            return None
        self._template, self._known = None, ()
        if not reply.update.HasField("prefix"):
            self._template, self._known = Template(reply.update), self._meanings(reply.update)
        return self.decode(reply.update, now_s)

    def _meanings(self, note: gnmi.Notification) -> Sequence[tuple[str, str] | None]:
        found = []
        for update in note.update:
            raw = update.path.SerializeToString()
            meaning = self._meaning.get(raw, False)
            if meaning is False:
                meaning = self._meaning[raw] = _meaning([*note.prefix.elem, *update.path.elem])
            found.append(meaning if isinstance(meaning, tuple) else None)
        return found

    def _samples(
        self, timestamp_ns: int, meanings: Sequence[tuple[str, str] | None], values: Sequence[Any], now_s: float
    ) -> list[PortSample | DeviceSample]:
        told = timestamp_ns / 1e9
        time_s = told if abs(told - now_s) < _PLAUSIBLE_S else now_s
        ports: dict[str, dict[str, Any]] = {}
        device: dict[str, float] = {}
        for meaning, value in zip(meanings, values, strict=True):
            if meaning is None:
                continue
            if value is None:
                self.malformed += 1
                continue
            owner, name = meaning
            if name == "up":
                if not isinstance(value, str):  # a number is no status, least of all "down"
                    self.malformed += 1
                    continue
                value = value == "UP"
            elif type(value) is not float:  # most are
                value = _speed(value)
            if not owner:
                device[name] = value
            elif owner in ports:
                ports[owner][name] = value
            else:
                ports[owner] = {name: value}
        items: list[PortSample | DeviceSample] = [
            PortSample(f"{self.switch}:{port}", time_s, **values) for port, values in ports.items() if values
        ]
        if device:
            items.append(self._device(device, time_s))
        return items

    def _device(self, found: Mapping[str, float], time_s: float) -> DeviceSample:
        physical = found.get("physical", nan)
        used = found.get("used", nan)
        return DeviceSample(
            self.switch,
            time_s,
            cpu_utilization=found.get("cpu", nan) / 100,
            memory_utilization=used / physical if physical else nan,
            backlog_packets=found.get("backlog", nan),
            dropped_total=found.get("dropped", nan),
        )


def _meaning(elems: list[gnmi.PathElem]) -> tuple[str, str] | None:
    """(port, field) for a path, ("", field) for the device, None for what is not used."""
    names = [elem.name for elem in elems]
    if not names:
        return None
    leaf = names[-1] if names[-1] != "instant" else names[-2]
    keys = {key: value for elem in elems for key, value in elem.key.items()}
    if names[0] == "system":
        if "cpus" in names:
            return ("", "cpu")
        return ("", leaf) if leaf in ("used", "physical") else None
    if names[0] == "components" and keys.get("name") == "backlog":
        if "drop" in leaf:
            return ("", "dropped")
        return ("", "backlog")
    port = keys.get("interface-id") if names[0] == "qos" else keys.get("name")
    if port is None or not port.isdigit():
        return None
    if leaf == "oper-status":
        return (port, "up")
    if leaf in _PARENT_FIELDS:
        return (port, _PARENT_FIELDS[leaf])
    if leaf in _PORT_FIELDS:
        return (port, _PORT_FIELDS[leaf])
    return None


def _value(value: gnmi.TypedValue) -> Any:
    kind = value.WhichOneof("value")
    if kind in ("json_val", "json_ietf_val"):
        found = json.loads(getattr(value, kind))
        if isinstance(found, str) and found not in ("UP", "DOWN"):
            try:
                return float(found)  # RFC 7951: 64-bit numbers are strings
            except ValueError:
                return found
        return found
    return getattr(value, kind) if kind else None


def _speed(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else nan


LEAVES = (
    "interfaces/interface[name=*]/state/oper-status",
    "interfaces/interface[name=*]/state/counters/in-errors",
    "interfaces/interface[name=*]/state/counters/out-octets",
    "interfaces/interface[name=*]/state/counters/out-pkts",
    "interfaces/interface[name=*]/state/counters/out-discards",
    "interfaces/interface[name=*]/ethernet/state/port-speed",
    "components/component[name=*]/transceiver/physical-channels/channel[index=0]/state/input-power/instant",
    "components/component[name=*]/transceiver/state/pre-fec-ber/instant",
    "components/component[name=*]/transceiver/state/fec-corrected-bits",
    "components/component[name=*]/transceiver/state/fec-uncorrectable-words",
    "components/component[name=backlog]/state",
    "qos/interfaces/interface[interface-id=*]/output/queues/queue[name=0]/state/max-queue-len",
    "system/cpus/cpu[index=ALL]/state/total/instant",
    "system/memory/state",
)
STATUS = LEAVES[0]


def parse_path(text: str) -> gnmi.Path:
    """A gNMI path from its text form.

    >>> [elem.name for elem in parse_path("a/b[k=*]/c").elem]
    ['a', 'b', 'c']
    """
    path = gnmi.Path()
    for part in text.split("/"):
        name, _, key = part.partition("[")
        left, _, right = key.rstrip("]").partition("=")
        path.elem.add(name=name, key={left: right} if key else {})
    return path


class GnmiSource:
    """Subscribes to one switch's telemetry and port status for as long as it runs."""

    def __init__(
        self,
        switch: str,
        address: str,
        inbox: Inbox,
        clock: Clock,
        interval_s: float,
        *,
        credentials: GRPCCredentialsTLS | None = None,
        on_samples: Callable[[Sequence[PortSample | DeviceSample]], None] = lambda _: None,
    ) -> None:
        self.switch = switch
        self.malformed = 0
        self._credentials = credentials
        self._on_samples = on_samples
        self.address = address
        self.state = "down"
        self.samples = 0
        self._inbox = inbox
        self._clock = clock
        self._interval_ns = int(interval_s * 1e9)

    async def run(self) -> None:
        """Subscribe, read, reconnect. Returns only where the switch has no gNMI at all (BMv2)."""
        while True:
            async with self._channel() as channel:
                subscribe: Any = channel.stream_stream(_SUBSCRIBE, gnmi.SubscribeRequest.SerializeToString, None)
                tasks = [
                    asyncio.create_task(self._sample(subscribe), name=f"gnmi-sample:{self.switch}"),
                    asyncio.create_task(self._status(subscribe), name=f"gnmi-status:{self.switch}"),
                ]
                try:
                    # Both run for ever: whichever ends first, even in order, asks for a new subscription of both.
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                    self.state = "down"
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                        self.state = NOT_OFFERED
                        LOG.warning("no gNMI; digests only", switch=self.switch)
                        return
                    self.state = "down"
                except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:  # the call had ended already
                    LOG.debug("telemetry subscription ended", switch=self.switch, reason=str(error))
                    self.state = "down"
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.2)

    def _channel(self) -> grpc.aio.Channel:
        options = channel_options(self._credentials)
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.address, options=options)
        return grpc.aio.secure_channel(self.address, self._credentials.to_client_credentials(), options=options)

    async def _sample(self, subscribe: Any) -> None:
        decoder = Decoder(self.switch)
        wanted = [
            gnmi.Subscription(
                path=parse_path(text), mode=gnmi.SubscriptionMode.SAMPLE, sample_interval=self._interval_ns
            )
            for text in LEAVES
        ]
        async for data in self._subscribe(subscribe, wanted):
            items = decoder.decode_bytes(data, self._clock.time())
            if items is None:
                continue
            self.state = "up"
            self.samples += 1
            for item in items:
                self._inbox.put(item)
            self.malformed = decoder.malformed
            self._on_samples(items)

    async def _status(self, subscribe: Any) -> None:
        wanted = [gnmi.Subscription(path=parse_path(STATUS), mode=gnmi.SubscriptionMode.ON_CHANGE)]
        decoder = Decoder(self.switch)
        async for data in self._subscribe(subscribe, wanted):
            now = self._clock.time()
            for item in decoder.decode_bytes(data, now) or ():
                if isinstance(item, PortSample):
                    self._inbox.put(PortEvent(item.element, now, item.up, "carrier"))

    async def _subscribe(self, subscribe: Any, wanted: list[gnmi.Subscription]) -> AsyncIterator[bytes]:
        """Serialized responses."""
        call = subscribe(wait_for_ready=True)
        request = gnmi.SubscribeRequest(
            subscribe=gnmi.SubscriptionList(
                mode=gnmi.SubscriptionList.Mode.STREAM, subscription=wanted, encoding=gnmi.Encoding.PROTO
            )
        )
        await call.write(request)
        while True:
            reply = await call.read()
            if not isinstance(reply, bytes):  # grpc.aio.EOF
                return
            yield reply
