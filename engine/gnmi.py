"""A subset of gNMI on the P4Runtime port: Capabilities, Get, and Subscribe in the modes ONCE, POLL and STREAM.

SAMPLE goes down to 10 ms; all SAMPLE subscriptions of one request with the same interval come as one Notification.
ON_CHANGE covers what changes by events (port state); TARGET_DEFINED is ON_CHANGE where possible, else SAMPLE each
second. Set enables and disables ports (:mod:`engine.gnmi_set`); the rest of a port's configuration is the host's
business. Tree: :mod:`engine.gnmi_paths`.

Values: JSON in Get (PROTO scalars on request); Subscribe sends scalars unless JSON_IETF is asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from engine.api import DatapathError, DeviceState, PortStatus
from engine.gnmi_paths import Elem, Leaf, Value, elements, is_config, leaves, matches, notification, reading, update
from engine.gnmi_set import wanted as wanted_states
from engine.p4rt.errors import P4Error, Rpc, invalid, not_found
from engine.p4rt.service import abort, decoding
from engine.p4rt.stubs import gnmi
from engine.p4rt.values import delimited

VERSION = "0.10.0"
MIN_INTERVAL_NS = 10_000_000
DEFAULT_INTERVAL_NS = 1_000_000_000
MAX_SUBSCRIPTIONS = 64  # streams at a time
_ENCODINGS = (gnmi.JSON, gnmi.JSON_IETF, gnmi.PROTO)
Enable = Callable[[Mapping[int, bool]], None]
_SYNC = gnmi.SubscribeResponse(sync_response=True).SerializeToString()


class Tree:
    """Leaves of one switch and their values now."""

    def __init__(self, read: Callable[[bool], DeviceState]) -> None:
        self._read = read
        self._ports: tuple[int, ...] = ()
        self._leaves: list[Leaf] = leaves(())

    def state(self, *, keep_maxima: bool) -> DeviceState:
        return self._read(keep_maxima)

    def all(self, state: DeviceState) -> list[Leaf]:
        ports = tuple(port.port for port in state.ports)
        if ports != self._ports:
            self._leaves = leaves(ports)
            self._ports = ports
        return self._leaves

    def select(self, patterns: list[tuple[Elem, ...]], state: DeviceState) -> list[Leaf]:
        """Leaves that one of the patterns covers, each once."""
        return [leaf for leaf in self.all(state) if any(matches(pattern, leaf.elems) for pattern in patterns)]


class _Group:
    """Leaves that are reported together: at ``interval_ns``, or on change when that is 0."""

    def __init__(self, patterns: list[tuple[Elem, ...]], interval_ns: int, suppress: bool, encoding: int) -> None:
        self.patterns = patterns
        self.interval_ns = interval_ns
        self.due_ns = 0
        self.resets_maxima = False
        self._suppress = suppress or not interval_ns
        self._encoding = encoding
        self._last: dict[bytes, Value] = {}
        self._leaves: list[Leaf] = []
        self._universe: list[Leaf] | None = None

    def report(self, tree: Tree, state: DeviceState) -> bytes | None:
        """A SubscribeResponse, None when there is nothing new to say."""
        universe = tree.all(state)
        if universe is not self._universe:
            self._universe = universe
            chosen = tree.select(self.patterns, state)
            self._leaves = [leaf for leaf in chosen if self.interval_ns or leaf.on_change]
            self.resets_maxima = bool(self.interval_ns) and any(leaf.elems[0][0] == "qos" for leaf in self._leaves)
        ports = {port.port: port for port in state.ports}
        parts = []
        for leaf in self._leaves:
            value = reading(leaf, state, ports)
            if value is None:
                continue
            if self._suppress:
                if self._last.get(leaf.wire) == value:
                    continue
                self._last[leaf.wire] = value
            parts.append(update(leaf, value, self._encoding))
        if not parts and self._suppress:
            return None
        return delimited(gnmi.SubscribeResponse.UPDATE_FIELD_NUMBER, notification(time.time_ns(), parts))


class GnmiService:
    """Handlers of ``gnmi.gNMI``. ``read(keep_maxima)`` gives the device's state, ``enable`` changes that of ports.

    Without ``enable`` Set is refused.
    """

    def __init__(self, read: Callable[[bool], DeviceState], enable: Enable | None = None) -> None:
        self._tree = Tree(read)
        self._enable = enable
        self._changed = threading.Condition()
        self._changes = 0
        self._streams = 0
        self._closed = False

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """For ``grpc.Server.add_generic_rpc_handlers``."""
        unary = grpc.unary_unary_rpc_method_handler

        def plain(message: Any) -> bytes:
            data: bytes = message.SerializeToString()
            return data

        return grpc.method_handlers_generic_handler(
            "gnmi.gNMI",
            {
                "Capabilities": unary(decoding(self.capabilities, gnmi.CapabilityRequest), None, plain),
                "Get": unary(decoding(self.get, gnmi.GetRequest), None, plain),
                "Set": unary(decoding(self.set, gnmi.SetRequest), None, plain),
                "Subscribe": grpc.stream_stream_rpc_method_handler(self.subscribe, None, None),
            },
        )

    def on_port(self, _status: PortStatus | None = None) -> None:
        """A port went up or down, or was enabled or disabled."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End all subscriptions."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def capabilities(self, request: gnmi.CapabilityRequest, context: grpc.ServicerContext) -> gnmi.CapabilityResponse:
        names = (
            "openconfig-interfaces",
            "openconfig-if-ethernet",
            "openconfig-platform-transceiver",
            "openconfig-qos",
            "openconfig-system",
        )
        return gnmi.CapabilityResponse(
            supported_models=[gnmi.ModelData(name=name, organization="OpenConfig working group") for name in names],
            supported_encodings=_ENCODINGS,
            gNMI_version=VERSION,
        )

    def set(self, request: gnmi.SetRequest, context: grpc.ServicerContext) -> gnmi.SetResponse:
        try:
            return self._set(request)
        except Exception as error:
            abort(context, error)
            raise

    def _set(self, request: gnmi.SetRequest) -> gnmi.SetResponse:
        ports = [port.port for port in self._tree.state(keep_maxima=True).ports]
        states = wanted_states(request, ports)
        if self._enable is None:
            raise P4Error(Rpc.UNIMPLEMENTED, "gNMI Set: this target's ports cannot be disabled")
        if states:
            try:
                self._enable(states)
            except DatapathError as error:
                raise P4Error(int(error.code), str(error)) from None
            self.on_port()
        response = gnmi.SetResponse(timestamp=time.time_ns())
        response.prefix.CopyFrom(request.prefix)
        operations = gnmi.UpdateResult
        for path in request.delete:
            response.response.add(path=path, op=operations.DELETE)
        for update_ in request.replace:
            response.response.add(path=update_.path, op=operations.REPLACE)
        for update_ in request.update:
            response.response.add(path=update_.path, op=operations.UPDATE)
        return response

    def get(self, request: gnmi.GetRequest, context: grpc.ServicerContext) -> gnmi.GetResponse:
        try:
            return self._get(request)
        except Exception as error:
            abort(context, error)
            raise

    def _get(self, request: gnmi.GetRequest) -> gnmi.GetResponse:
        encoding = _encoding(request.encoding)
        response = gnmi.GetResponse()
        types = gnmi.GetRequest
        state = self._tree.state(keep_maxima=True)
        ports = {port.port: port for port in state.ports}
        for path in request.path or [gnmi.Path()]:
            pattern = elements(request.prefix, path)
            parts = []
            for leaf in self._tree.select([pattern], state):
                if request.type != types.ALL and is_config(leaf) != (request.type == types.CONFIG):
                    continue
                value = reading(leaf, state, ports)
                if value is not None:
                    parts.append(update(leaf, value, encoding))
            if not parts and state.ports and not self._tree.select([pattern], state):
                raise not_found(f"gNMI path {_text(pattern)} does not exist here")
            response.notification.add().ParseFromString(notification(time.time_ns(), parts))
        return response

    # -- Subscribe -------------------------------------------------------------------------------------------------

    def subscribe(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        with self._changed:
            full = self._streams >= MAX_SUBSCRIPTIONS
            self._streams += not full
        if full:
            abort(context, P4Error(Rpc.RESOURCE_EXHAUSTED, f"more than {MAX_SUBSCRIPTIONS} gNMI subscriptions"))
        try:
            yield from self._subscribe(_decoded(requests), context)
        except (P4Error, RuntimeError) as error:
            abort(context, error)
        finally:
            with self._changed:
                self._streams -= 1

    def _subscribe(self, requests: Iterator[gnmi.SubscribeRequest], context: grpc.ServicerContext) -> Iterator[bytes]:
        first = next(requests, None)
        if first is None:
            return
        if not first.HasField("subscribe"):
            raise invalid("the first message of Subscribe must hold a SubscriptionList")
        wanted = first.subscribe
        groups = self._groups(wanted)
        seen = self._changes  # before the first look, so that no change falls between it and the stream
        if not wanted.updates_only:
            yield from self._reports(groups)
        yield _SYNC
        if wanted.mode == gnmi.SubscriptionList.ONCE:
            return
        if wanted.mode == gnmi.SubscriptionList.POLL:
            for message in requests:
                if not message.HasField("poll"):
                    raise invalid("after the SubscriptionList only Poll messages are possible")
                yield from self._reports(groups)
                yield _SYNC
            return
        context.add_callback(self._wake)
        yield from self._stream(groups, context, seen)

    def _groups(self, wanted: gnmi.SubscriptionList) -> list[_Group]:
        # JSON is 0, so it cannot be told from "not set"; Stratum then sends scalars, and clients (finsy) rely on it.
        encoding = gnmi.PROTO if wanted.encoding == gnmi.JSON else _encoding(wanted.encoding)
        if not len(wanted.subscription):
            raise invalid("the SubscriptionList is empty")
        state = self._tree.state(keep_maxima=True)
        found: dict[tuple[int, bool], _Group] = {}
        for item in wanted.subscription:
            pattern = elements(wanted.prefix, item.path)
            interval = self._interval(wanted.mode, item, pattern, state)
            group = found.setdefault(
                (interval, item.suppress_redundant), _Group([], interval, item.suppress_redundant, encoding)
            )
            group.patterns.append(pattern)
        return list(found.values())

    def _interval(self, mode: int, item: gnmi.Subscription, pattern: tuple[Elem, ...], state: DeviceState) -> int:
        """Nanoseconds between samples; 0: on change."""
        if mode != gnmi.SubscriptionList.STREAM:
            return DEFAULT_INTERVAL_NS
        chosen = self._tree.select([pattern], state)
        if item.mode == gnmi.SAMPLE:
            interval: int = item.sample_interval or MIN_INTERVAL_NS
            if interval < MIN_INTERVAL_NS:
                raise invalid(f"sample interval {interval} ns is below {MIN_INTERVAL_NS} ns")
            return interval
        by_event = [leaf for leaf in chosen if leaf.on_change]
        if item.mode == gnmi.ON_CHANGE:
            if chosen and not by_event:
                raise invalid(f"gNMI path {_text(pattern)} can be sampled, but does not change by events")
            return 0
        return 0 if by_event and len(by_event) == len(chosen) else DEFAULT_INTERVAL_NS

    def _reports(self, groups: list[_Group]) -> Iterator[bytes]:
        state = self._tree.state(keep_maxima=not any(group.resets_maxima for group in groups))
        for group in groups:
            report = group.report(self._tree, state)
            if report is not None:
                yield report

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _stream(self, groups: list[_Group], context: grpc.ServicerContext, seen: int) -> Iterator[bytes]:
        now = time.monotonic_ns()
        for group in groups:
            group.due_ns = now + group.interval_ns
        sampled = [group for group in groups if group.interval_ns]
        changing = [group for group in groups if not group.interval_ns]
        while context.is_active():
            due = min((group.due_ns for group in sampled), default=None)
            with self._changed:
                while not self._closed and (seen == self._changes or not changing):
                    wait = 5.0 if due is None else (due - time.monotonic_ns()) / 1e9
                    if wait <= 0 or not context.is_active():
                        break
                    self._changed.wait(wait)
                if self._closed:
                    return
                changed, seen = seen != self._changes, self._changes
            now = time.monotonic_ns()
            ready = [group for group in sampled if group.due_ns <= now]
            for group in ready:  # keep the rhythm; skip what could not be sent in time
                group.due_ns += group.interval_ns * (1 + (now - group.due_ns) // group.interval_ns)
            if changed:
                ready += changing
            if ready:
                yield from self._reports(ready)


def _decoded(requests: Iterator[bytes]) -> Iterator[gnmi.SubscribeRequest]:
    """The messages; gRPC itself would never end a stream with one that it cannot decode."""
    for data in requests:
        try:
            yield gnmi.SubscribeRequest.FromString(data)
        except DecodeError:
            raise invalid("a message of the stream is no gnmi.SubscribeRequest") from None


def _encoding(encoding: int) -> int:
    if encoding not in _ENCODINGS:
        raise P4Error(Rpc.UNIMPLEMENTED, f"gNMI encoding {encoding} is not supported (JSON, JSON_IETF and PROTO are)")
    return encoding


def _text(pattern: tuple[Elem, ...]) -> str:
    parts = [name + "".join(f"[{key}={value}]" for key, value in keys) for name, keys in pattern]
    return "/" + "/".join(parts)
