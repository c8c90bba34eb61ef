"""Single writes without a change of threads.

gRPC's Python server hands every request to a pool and wakes a thread twice for it: half of the time that a register
write takes. The pool here lets a write of one register cell or one table entry run where its message arrives, in the
server's own thread (median 0.23 instead of 0.36 ms for an empty request). Whatever is not that simple, is refused, or
would have to wait, goes the usual way through the pool, which also words the error.

This leans on internals of ``grpc._server`` (checked with grpcio 1.85). When they are not as expected,
:func:`available` is False, and everything goes the usual way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

log = logging.getLogger(__name__)

Quick = Callable[[bytes], bool]

_server: Any = None
_cygrpc: Any = None
try:
    import grpc._server as _server_module
    from grpc._cython import cygrpc as _cygrpc_module  # type: ignore[attr-defined]

    _NEEDED = (
        "_unary_response_in_pool",
        "_possibly_finish_call",
        "_status",
        "_RECEIVE_MESSAGE_TOKEN",
        "_OPEN",
        "_CLOSED",
    )
    if all(hasattr(_server_module, name) for name in _NEEDED) and hasattr(_cygrpc_module, "ReceiveMessageOperation"):
        _server, _cygrpc = _server_module, _cygrpc_module
except ImportError:
    log.debug("gRPC's internals are not where they were: single writes take the usual way")


def available() -> bool:
    """Whether this gRPC has the internals that the short way needs."""
    return _server is not None


class Pool(ThreadPoolExecutor):
    """A thread pool for ``grpc.server`` that tries ``quick`` on the requests of one unary method first.

    ``quick`` gets the serialized request; True means done (the response is empty), False that the method itself must
    run. It must neither raise nor wait long.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers, thread_name_prefix="grpc")
        self._method: Any = None
        self._quick: Quick | None = None
        self.short_ways = 0

    def serve_quickly(self, method: Any, quick: Quick) -> None:
        """Use ``quick`` for requests that gRPC would give to ``method``."""
        if available():
            self._method, self._quick = method, quick

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._quick is None or len(args) != 7 or args[0] is not _server._unary_response_in_pool:
            return super().submit(fn, *args, **kwargs)
        _in_pool, event, state, behavior, *_rest = args
        if behavior != self._method:
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        call = _Call(self, self._quick, fn, args, future)
        # gRPC holds the call's condition here, as it does where it starts to receive a message itself
        event.call.start_server_batch((_cygrpc.ReceiveMessageOperation(0),), call)
        state.due.add(_server._RECEIVE_MESSAGE_TOKEN)
        return future

    def usual_way(self, fn: Callable[..., Any], args: tuple[Any, ...], data: bytes, future: Future[Any]) -> None:
        """Run the method in the pool with a message that is here already."""
        in_pool, event, state, behavior, _thunk, deserialize, serialize = args

        def message() -> Any:
            return _server._common.deserialize(data, deserialize)

        def parsed() -> Any:
            request = message()
            if request is None:
                with state.condition:  # else the status may be sent before gRPC knows that it is due
                    _server._abort(state, event.call, _cygrpc.StatusCode.internal, b"Exception deserializing request!")
            return request

        def finish(_done: Future[Any]) -> None:
            future.set_result(None)

        try:
            inner = super().submit(fn, in_pool, event, state, behavior, parsed, deserialize, serialize)
        except RuntimeError:  # the pool is shutting down
            future.set_result(None)
        else:
            inner.add_done_callback(finish)


class _Call:
    """Tag of the receive operation: gRPC calls it, in its own thread, when the message is there."""

    __slots__ = ("_args", "_fn", "_future", "_pool", "_quick")

    def __init__(
        self, pool: Pool, quick: Quick, fn: Callable[..., Any], args: tuple[Any, ...], future: Future[Any]
    ) -> None:
        self._pool = pool
        self._quick = quick
        self._fn = fn
        self._args = args
        self._future = future

    def __call__(self, event: Any) -> Any:
        rpc_event, state = self._args[1], self._args[2]
        data = event.batch_operations[0].message()
        try:
            if data is None:  # cancelled, or closed without a message
                with state.condition:
                    if state.client is _server._OPEN:
                        state.client = _server._CLOSED
                self._future.set_result(None)
            elif self._quick(data):
                self._pool.short_ways += 1
                _server._status(rpc_event, state, b"")
                self._future.set_result(None)
            else:
                self._pool.usual_way(self._fn, self._args, data, self._future)
        except Exception:  # this is gRPC's serving thread: it must survive
            log.exception("a write failed unexpectedly")
            if not self._future.done():
                self._pool.usual_way(self._fn, self._args, data or b"", self._future)
        with state.condition:
            return _server._possibly_finish_call(state, _server._RECEIVE_MESSAGE_TOKEN)
