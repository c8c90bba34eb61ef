"""Flipping failover bits fast: prebuilt requests on a warm channel.

Two transports, probed when a switch connects, in this order:

1. :class:`RegisterTransport`: ``RegisterEntry`` MODIFY, all groups of a switch in one ``WriteRequest``. The bytes
   of each update are serialized once; a request is their concatenation (protobuf: concatenated fields of a
   message merge, https://protobuf.dev/programming-guides/encoding/#last-one-wins), so a flip costs no object
   layer and its size does not depend on how many prefixes a group has. It leaves straight from the event loop
   (:mod:`control.shortway`); what is not simply done goes through gRPC's client.
2. :class:`PacketOutTransport`: a packet-out with the steering opcode, answered by a packet-in with the same cookie.
   For BMv2, whose P4Runtime server answers UNIMPLEMENTED for registers.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from finsy import GRPCCredentialsTLS, P4PacketOut, P4Schema
from finsy.proto import p4r

from control import refusals
from control.entries import failover_update
from control.errors import FlipTimeout, FlipUnavailable, NotPrimary, SwitchUnavailable, WriteRejected
from control.priority import favour
from control.shortway import Call, ShortWay

SET_FAILOVER = 1
GET_FAILOVER = 2
PROBE_CELL = 0  # no steering group ever has this id
_COMMAND = struct.Struct("!IIQ")  # index, value, cookie
WRITE = "/p4.v1.P4Runtime/Write"
_ENDED = "the session with the switch has ended"
FLIP_TIMEOUT_S = 1.0  # a switch that takes longer is left, and restored when it answers again


@dataclass(frozen=True, slots=True)
class FlipResult:
    """``seconds``: from the start of the write to the switch's confirmation; ``queued_s``: what the write waited for
    its thread before; ``confirmed``: when the confirmation was here (``time.perf_counter``; 0: not noted)."""

    seconds: float
    transport: str
    queued_s: float = 0.0
    confirmed: float = 0.0


def channel_options(credentials: GRPCCredentialsTLS | None) -> list[tuple[str, Any]]:
    """Options of every channel to a switch: its own connection, soon tried again, and the name in its certificate."""
    options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)]
    if credentials is not None and credentials.target_name_override:
        options.append(("grpc.ssl_target_name_override", credentials.target_name_override))
    return options


class Transport(Protocol):
    """Sets failover bits of one switch. All bits of one call are sent together."""

    @property
    def name(self) -> str: ...

    async def flip(self, bits: Mapping[int, int]) -> FlipResult:
        """Write the bits (group id -> 0 or 1); raises :class:`SwitchUnavailable`, :class:`NotPrimary`,
        :class:`WriteRejected`."""
        ...

    def close(self) -> None: ...


class Turn:
    """Whose turn it is: as ``asyncio.Lock``, and can be taken without waiting."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take it if nobody has it or waits for it."""
        if self._taken or self._waiting:
            return False
        self._taken = True
        return True

    async def wait(self) -> None:
        """Take it when all who came before are done."""
        if self.take():
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.release()  # it was handed over in the same moment
            else:
                with suppress(ValueError):  # a release since then has passed over it
                    self._waiting.remove(mine)
            raise

    def release(self) -> None:
        """Hand it over to who waits longest."""
        while self._waiting:
            following = self._waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        self._taken = False


class Begun:
    """A flip on its way by the short way: :meth:`done` once its answer is here, :meth:`rest` to wait for it.

    It keeps the transport's turn; whoever has one must end it by one of the two, or by :meth:`end`.
    """

    def __init__(self, transport: RegisterTransport, bits: Mapping[int, int], call: Call) -> None:
        self.call = call
        self._transport = transport
        self._bits = bits
        self._ended = False

    def done(self) -> FlipResult | None:
        """The result, if the switch has confirmed."""
        if not self.call.ok:
            return None
        self.end()
        return self._transport.result(self.call)

    async def rest(self) -> FlipResult:
        """Wait for the switch; raises as :meth:`Transport.flip`. What is not simply done is asked again by gRPC."""
        transport = self._transport
        try:
            try:
                async with asyncio.timeout(transport.timeout_s):
                    done = await self.call.wait()
            except TimeoutError:
                raise FlipTimeout(f"no answer in time: {transport.timeout_s:g} s") from None
            return transport.result(self.call) if done else await transport.usual_way(self._bits)
        finally:
            self.end()

    def end(self) -> None:
        """Give the turn back; whoever is cancelled before :meth:`rest` must."""
        if not self._ended:
            self._ended = True
            self._transport.turn.release()


class RegisterTransport:
    """RegisterEntry MODIFY: a call on a socket of the event loop, else by a synchronous stub in a thread of its own.

    gRPC's ``future`` starts a polling thread for each call when none is busy; a blocking call on a waiting thread
    spares that (0.37 ms against 0.60 ms at the median on the development machine), the short way the threads as well.
    Flips of a switch go one after the other.
    """

    name = "register"

    def __init__(
        self,
        address: str,
        device_id: int,
        schema: P4Schema,
        *,
        timeout_s: float = FLIP_TIMEOUT_S,
        credentials: GRPCCredentialsTLS | None = None,
    ) -> None:
        self._schema = schema
        self.timeout_s = timeout_s
        self._device_id = device_id
        options = channel_options(credentials)
        self._channel = (
            grpc.insecure_channel(address, options=options)
            if credentials is None
            else grpc.secure_channel(address, credentials.to_client_credentials(), options=options)
        )
        self._write: Any = self._channel.unary_unary(WRITE, None, None)  # bytes in, bytes out
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flip", initializer=favour)  # warm, a future's is not
        self._short = ShortWay(address, WRITE, timeout_s=timeout_s) if credentials is None else None
        self._opening: asyncio.Task[bool] | None = None
        self._closed = False
        self.turn = Turn()
        self._head = b""
        self._pieces: dict[tuple[int, int], bytes] = {}

    def prepare(self, election_id: int, group_ids: tuple[int, ...]) -> None:
        """Serialize everything that flips of these groups will need."""
        self._head = p4r.WriteRequest(
            device_id=self._device_id,
            election_id=p4r.Uint128(high=election_id >> 64, low=election_id & (2**64 - 1)),
        ).SerializeToString()
        for group_id in group_ids:
            for bit in (0, 1):
                self._piece(group_id, bit)

    def request(self, bits: Mapping[int, int]) -> bytes:
        """The serialized ``WriteRequest`` for these bits."""
        return self._head + b"".join(self._piece(group_id, bit) for group_id, bit in bits.items())

    def flip_now(self, bits: Mapping[int, int], since: float | None = None) -> FlipResult:
        """As :meth:`flip`, blocking: for benchmarks and tools without an event loop. ``since``: when it was asked
        for (``time.perf_counter``)."""
        request = self.request(bits)
        start = time.perf_counter()
        try:
            self._write(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            groups = list(bits)
            raise translate(error, lambda index: f"failover[{groups[index]}]") from error
        except ValueError as error:  # "Cannot invoke RPC on closed channel!"
            raise SwitchUnavailable(_ENDED) from error
        stop = time.perf_counter()
        return FlipResult(stop - start, self.name, 0.0 if since is None else start - since, stop)

    async def open(self) -> bool:
        """Make the short way ready; False where there is none."""
        if self._short is not None and not await self._short.open():
            self._short = None
        return self._short is not None

    def begin(self, bits: Mapping[int, int]) -> Begun | None:
        """Send a flip at once and by the short way; None when it takes :meth:`flip`."""
        if self._short is None or not self._short.ready:
            return None
        request = self.request(bits)
        if not self.turn.take():
            return None
        begun: Begun | None = None
        try:
            call = self._short.send(request)
            if call is not None:
                begun = Begun(self, dict(bits), call)
        finally:
            if begun is None:
                self.turn.release()
        return begun

    def begin_write(self, updates: Sequence[p4r.Update]) -> Call | None:
        """Send any other updates at once and by the short way; None where there is none, or they are too many."""
        if self._short is None or not self._short.ready:
            return None
        return self._short.send(self._head + p4r.WriteRequest(updates=updates).SerializeToString())

    async def flip(self, bits: Mapping[int, int]) -> FlipResult:
        begun = self.begin(bits)
        if begun is not None:
            return await begun.rest()
        if self._short is not None and not self._short.ready and self._opening is None and not self._closed:
            self._opening = asyncio.create_task(self._reopen(self._short), name="short way")
        await self.turn.wait()
        try:
            return await self.usual_way(bits)
        finally:
            self.turn.release()

    async def _reopen(self, short: ShortWay) -> bool:
        """The connection ended, as servers may do: for the flips to come there shall be another one."""
        try:
            return await short.open()
        finally:
            self._opening = None

    async def usual_way(self, bits: Mapping[int, int]) -> FlipResult:
        """By gRPC's client; for who has the turn."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self.flip_now, dict(bits), time.perf_counter())
        except RuntimeError as error:  # "cannot schedule new futures after shutdown"
            raise SwitchUnavailable(_ENDED) from error

    def result(self, call: Call) -> FlipResult:
        """Of a call that the switch has confirmed."""
        return FlipResult(call.answered - call.began, self.name, 0.0, call.answered)

    def probe(self) -> bool:
        """Whether the switch serves registers (blocking, bounded): write and read back the probe cell."""
        try:
            self._write(self.request({PROBE_CELL: 0}), timeout=self.timeout_s)
        except grpc.RpcError as error:
            codes = {refusal.code for refusal in refusals.of_call(error)}  # BMv2: UNKNOWN outside, the reason inside
            if _code(error) is grpc.StatusCode.UNIMPLEMENTED or "UNIMPLEMENTED" in codes:
                return False
            raise translate(error, lambda _: f"failover[{PROBE_CELL}]") from error
        return True

    def close(self) -> None:
        """Flips under way fail as :class:`SwitchUnavailable`; cancelling them would cancel whoever waits for them."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        if self._short is not None:
            self._short.close()
        self._thread.shutdown(wait=False)
        self._channel.close()

    def _piece(self, group_id: int, bit: int) -> bytes:
        known = self._pieces.get((group_id, bit))
        if known is None:
            known = p4r.WriteRequest(updates=[failover_update(self._schema, group_id, bit)]).SerializeToString()
            self._pieces[group_id, bit] = known
        return known


class PacketOutTransport:
    """Steering opcodes in packet-outs; each is acknowledged by a packet-in with the same cookie."""

    name = "packet-out"

    def __init__(self, send: Callable[[P4PacketOut], Awaitable[None]], *, timeout_s: float = 0.5) -> None:
        self._send = send
        self._timeout = timeout_s
        self._cookies = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[int]] = {}

    async def flip(self, bits: Mapping[int, int]) -> FlipResult:
        start = time.perf_counter()
        values = await asyncio.gather(*(self._ask(SET_FAILOVER, group_id, bit) for group_id, bit in bits.items()))
        for (group_id, bit), value in zip(bits.items(), values, strict=True):
            if value != bit:
                raise WriteRejected(f"failover[{group_id}] is {value} after setting it to {bit}")
        return FlipResult(time.perf_counter() - start, self.name)

    async def read(self, group_id: int) -> int:
        """The bit of one group, as the data plane acknowledges it."""
        return await self._ask(GET_FAILOVER, group_id, 0)

    async def probe(self) -> bool:
        """Whether the program answers steering opcodes; a lost packet is asked again twice."""
        for _ in range(3):
            try:
                await self.read(PROBE_CELL)
            except SwitchUnavailable:
                continue
            return True
        return False

    def packet_in(self, reason: int, payload: bytes) -> bool:
        """Hand in a packet-in; returns whether it was an acknowledgement of ours."""
        if reason not in (SET_FAILOVER, GET_FAILOVER) or len(payload) < _COMMAND.size:
            return False
        _, value, cookie = _COMMAND.unpack_from(payload)
        answer = self._waiting.get(cookie)
        if answer is None or answer.done():
            return False
        answer.set_result(value)
        return True

    def close(self) -> None:
        """Whoever waits for an acknowledgement gets :class:`SwitchUnavailable`."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(SwitchUnavailable(_ENDED))
        self._waiting.clear()

    async def _ask(self, opcode: int, index: int, value: int) -> int:
        cookie = next(self._cookies)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[cookie] = answer
        try:
            packet = P4PacketOut(command(index, value, cookie), egress_port=0, opcode=opcode)
            await self._send(packet)
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            raise SwitchUnavailable(f"opcode {opcode} for group {index} was not acknowledged") from None
        finally:
            self._waiting.pop(cookie, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, also when sending had failed already


def command(index: int, value: int, cookie: int) -> bytes:
    """The header that follows an opcode (p4/README.md, "Packet formats")."""
    return _COMMAND.pack(index, value, cookie)


async def choose(register: RegisterTransport, packet: PacketOutTransport) -> Transport:
    """Probe the transports in order; raises :class:`FlipUnavailable` when the switch has neither."""
    try:
        if await asyncio.to_thread(register.probe):
            await register.open()
            return register
    except BaseException:
        register.close()
        raise
    register.close()
    if await packet.probe():
        return packet
    raise FlipUnavailable("the switch answers neither register writes nor steering packet-outs")


def translate(error: grpc.RpcError, name: Callable[[int], str] = "update {}".format) -> Exception:
    """A gRPC error as one of ours; ``name`` tells what the update at a place of the request was."""
    code, details = _code(error), _details(error)
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return NotPrimary(f"the switch does not accept our writes: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return FlipTimeout(f"no answer in time: {details}")
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return SwitchUnavailable(f"{code.name}: {details}")
    told = refusals.describe(refusals.of_call(error), name)
    return WriteRejected(told or f"{code.name if code else 'error'}: {details}")


def _code(error: grpc.RpcError) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.Call) else None


def _details(error: grpc.RpcError) -> str:
    return (error.details() or "") if isinstance(error, grpc.Call) else str(error)
