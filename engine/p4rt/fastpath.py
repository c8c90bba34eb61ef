"""Single writes without a change of threads, and with as few steps of gRPC's Python server as a call needs.

gRPC's Python server looks a method up, makes a state with a lock and a context for each call, and hands it to a pool,
which wakes a thread twice. Here calls of one unary method are asked for by name and served in the server's own thread
in three steps: the call arrives, its message arrives, all of the answer goes out in one batch. That is for requests
that ``quick`` can do at once. Whatever is not that simple, is refused, or would have to wait, goes the usual way
through the pool, which also words the error. Over a bare connection a register write takes 0.24 ms at the
median, data plane included; 0.28 when only the pool is left out.

What is left: five system calls, the fewest that a server with a data plane of its own can do (wait, receive, ask, hear,
send), and some 0.2 ms of the server's processor time: gRPC's core, the kernel, and the three events that gRPC's Python
makes of a call. The request itself is one native call (:mod:`engine.p4rt.single`), 0.01 ms and the data plane's answer.
BMv2, which takes half as long, has neither interpreter nor second process.

This leans on internals of ``grpc._server`` (checked with grpcio 1.85). When they are not as expected,
:func:`available` is False, and everything goes the usual way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import grpc

log = logging.getLogger(__name__)

Quick = Callable[[bytes], bool]

_server: Any = None
_cygrpc: Any = None
try:
    import grpc._server as _server_module
    from grpc._cython import cygrpc as _cygrpc_module  # type: ignore[attr-defined]

    _SERVER = (
        "_RPCState",
        "_ServerStage",
        "_receive_close_on_server",
        "_reject_rpc",
        "_stop_serving",
        "_unary_response_in_pool",
        "_RECEIVE_CLOSE_ON_SERVER_TOKEN",
    )
    _OPERATIONS = (
        "ReceiveCloseOnServerOperation",
        "ReceiveMessageOperation",
        "SendInitialMetadataOperation",
        "SendMessageOperation",
        "SendStatusFromServerOperation",
    )
    if all(hasattr(_server_module, name) for name in _SERVER) and all(
        hasattr(_cygrpc_module, name) for name in (*_OPERATIONS, "StatusCode")
    ):
        _server, _cygrpc = _server_module, _cygrpc_module
except ImportError:
    log.debug("gRPC's internals are not where they were: single writes take the usual way")


def available() -> bool:
    """Whether this gRPC has the internals that the short way needs."""
    return _server is not None


class ShortWay:
    """Serves one unary method of ``server``, a ``grpc.Server`` that has not started yet.

    ``quick`` gets the serialized request; True means done (the response is empty), False that ``handler`` must run in
    the pool. It must neither raise nor wait long. Call :meth:`start` instead of the server's own.
    """

    def __init__(self, server: Any, method: str, quick: Quick, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
        self.short_ways = 0
        self.quick = quick
        self.handler = handler
        self._method = method
        self._server = server
        self.state = server._state
        server._cy_server.register_method(method)

    def start(self) -> None:
        """Start the server, and ask for the first call."""
        self._server.start()
        with self.state.lock:
            self.ask()

    def ask(self) -> None:
        """Ask gRPC for the next call; the server's lock is held."""
        queue = self.state.completion_queue
        self.state.server.request_registered_call(queue, queue, self._method, self)
        self.state.due.add(self)

    def __call__(self, event: Any) -> Any:
        """gRPC's serving thread: a call has arrived, or (``success`` False) the server is shutting down."""
        state = self.state
        with state.lock:
            state.due.remove(self)
            call = _Call(self, event)
            state.rpc_states.add(call)  # until its last step
            if not event.success:
                return call, ()
            full = state.active_rpc_count >= state.maximum_concurrent_rpcs
            state.active_rpc_count += 1
            if state.stage is _server._ServerStage.STARTED:
                self.ask()
        return (None if call.begin(full) else call), ()


class _Call:
    """One call: tag of its operations, and what stands for it among the server's states.

    Everything here runs in gRPC's serving thread, which must survive: steps that fail end the call, nothing else.
    """

    __slots__ = ("_event", "_way")

    def __init__(self, way: ShortWay, event: Any) -> None:
        self._way = way
        self._event = event

    def begin(self, full: bool) -> bool:
        """Ask for the message; False: the call is over already."""
        if full:
            return self._refuse(_cygrpc.StatusCode.resource_exhausted, b"Concurrent RPC limit exceeded!")
        return self._batch((_cygrpc.ReceiveMessageOperation(0),), self._message)

    def _batch(self, operations: tuple[Any, ...], tag: Callable[[Any], Any]) -> bool:
        """Start a step; where that fails there will be no event of it, and the call is over: False."""
        try:
            error = self._event.call.start_server_batch(operations, tag)
            if not error:
                return True
            log.error("a step of a write was refused: gRPC's call error %s", error)
        except Exception:  # whatever it was, gRPC's serving thread must go on
            log.exception("a step of a write failed unexpectedly")
        self._leave()
        try:
            self._event.call.cancel()
        except Exception:  # the same; the client's deadline ends the call then
            log.exception("a write could not be cancelled")
        return False

    def _refuse(self, code: Any, text: bytes) -> bool:
        return self._batch(
            (
                _cygrpc.SendInitialMetadataOperation(None, 0),
                _cygrpc.ReceiveCloseOnServerOperation(0),
                _cygrpc.SendStatusFromServerOperation(None, code, text, 0),
            ),
            self._finished,
        )

    def _message(self, event: Any) -> Any:
        """The request is here (or the call was cancelled, or closed, before it came)."""
        data = event.batch_operations[0].message()
        if data is None:
            goes_on = self._refuse(_cygrpc.StatusCode.unimplemented, b"a Write takes exactly one request message")
        elif self._quick(data):  # done, and never to be done again, whatever becomes of the answer
            self._way.short_ways += 1
            goes_on = self._batch(
                (
                    _cygrpc.SendInitialMetadataOperation(None, 0),
                    _cygrpc.SendMessageOperation(b"", 0),
                    _cygrpc.SendStatusFromServerOperation(None, _cygrpc.StatusCode.ok, b"", 0),
                    _cygrpc.ReceiveCloseOnServerOperation(0),
                ),
                self._finished,
            )
        else:
            goes_on = self._usual_way(data)
        return (None if goes_on else self), ()

    def _quick(self, data: bytes) -> bool:
        try:
            return self._way.quick(data)
        except Exception:  # the same; the usual way words the answer
            log.exception("a write failed unexpectedly")
            return False

    def _usual_way(self, data: bytes) -> bool:
        """As ``grpc._server`` serves a unary call, from where the message is here."""
        way, state, rpc = self._way, self._way.state, _server._RPCState()
        with rpc.condition:
            close = (_cygrpc.ReceiveCloseOnServerOperation(0),)
            if not self._batch(close, _server._receive_close_on_server(rpc)):
                return False
            rpc.due.add(_server._RECEIVE_CLOSE_ON_SERVER_TOKEN)
        with state.lock:
            state.rpc_states.remove(self)
            state.rpc_states.add(rpc)
        handler = way.handler
        try:
            future = state.thread_pool.submit(
                rpc.context.run,
                _server._unary_response_in_pool,
                self._event,
                rpc,
                handler.unary_unary,
                lambda: data,
                None,
                handler.response_serializer,
            )
        except RuntimeError:  # the pool is shutting down, and gRPC ends the call
            self._leave()
        else:
            future.add_done_callback(lambda _done: self._leave())
        return True

    def _finished(self, _event: Any) -> Any:
        self._leave()
        return self, ()

    def _leave(self) -> None:
        with self._way.state.lock:
            self._way.state.active_rpc_count -= 1
