"""One device: arbitration, streams, the running pipeline, and the flow of events from the data plane to streams."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from google.protobuf.message import DecodeError

from engine.api import DatapathError, EngineError, Event, PortStatus
from engine.p4rt import pipeline as pipelines
from engine.p4rt.arbitration import Client, election_of
from engine.p4rt.backend import Backend
from engine.p4rt.budget import Budget
from engine.p4rt.errors import BatchError, P4Error, Rpc, invalid
from engine.p4rt.notices import digest_notices, notices
from engine.p4rt.outbox import DEFAULT_LIMIT, stream_error
from engine.p4rt.pipeline import Pipeline
from engine.p4rt.reader import is_of_cells
from engine.p4rt.reconcile import Stage, commit, reconcile
from engine.p4rt.roles import RoleRules
from engine.p4rt.single import SINGLE_MOST, Outcome, Single
from engine.p4rt.state import CONFIG, EAGER, EXTRAS, NAMES, SAVED, keep_config, kept_config
from engine.p4rt.streams import Streams
from engine.p4rt.stubs import p4r

log = logging.getLogger(__name__)

NO_PIPELINE = "No forwarding pipeline config set"
_SetRequest = p4r.SetForwardingPipelineConfigRequest
_FLUSH_S = 0.2  # until a large set of extras is kept
_IDLE_POLL_S = 5.0


class Device:
    """Thread-safe face of one switch towards :mod:`engine.p4rt.service`."""

    def __init__(self, backend: Backend, device_id: int, *, outbox_limit: int = DEFAULT_LIMIT) -> None:
        self.backend = backend
        self.device_id = device_id
        self.streams = Streams(device_id, outbox_limit)
        self.on_port: list[Callable[[PortStatus], None]] = []
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()  # before the other one
        self._reads = Budget()
        self._pipeline: Pipeline | None = None
        self._stage: Stage | None = None  # of a config that is saved and not committed
        self._wake = threading.Condition(threading.Lock())
        self._stopped = False
        self._recover()
        self._wanted: frozenset[int] | None = None  # numbers of the digests that the data plane sends us
        self._ticks_s = 0.0  # when the ticker looks again, on the monotonic clock
        self._listen()
        self._ticker = threading.Thread(target=self._tick, name="p4rt-timers", daemon=True)
        self._ticker.start()

    # -- life ------------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Find the pipeline of a former server in the data plane."""
        try:
            config = kept_config(self.backend, CONFIG)
            if config is not None:
                extras, names = self.backend.state_get(EXTRAS), self.backend.state_get(NAMES)
                self._pipeline = pipelines.reattach(config, extras, names, self.backend)
                log.info("found the running pipeline again (cookie %d)", config.cookie.cookie)
            self._save(kept_config(self.backend, SAVED))
        except (EngineError, P4Error) as error:
            log.error("the former pipeline could not be taken over: %s", error)

    def close(self) -> None:
        """End all streams and keep what is not yet kept; the data plane is left alone."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        self.streams.close()
        self._ticker.join(5)
        with self._write_lock:
            self._keep_extras(force=True)

    @property
    def _addressed(self) -> Pipeline | None:
        """What reads and writes refer to: a config that is saved and not committed, else the running one."""
        return self._stage.pipeline if self._stage is not None else self._pipeline

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that reads and writes refer to, or FAILED_PRECONDITION."""
        return _existing(self._addressed)

    def check_device(self, device_id: int) -> None:
        if device_id != self.device_id:
            raise P4Error(Rpc.NOT_FOUND, f"device id {device_id} is unknown; this is {self.device_id}")

    # -- streams ---------------------------------------------------------------------------------------------------

    def receive(self, client: Client, message: p4r.StreamMessageRequest) -> None:
        """Handle one message of a stream; :class:`P4Error` ends the stream."""
        kind = message.WhichOneof("update")
        if kind == "arbitration":
            self.streams.arbitrate(client, message.arbitration)
            return
        box = self.streams.outbox(client)
        if box is None:
            return
        if client.role is None:
            raise P4Error(Rpc.FAILED_PRECONDITION, "the first message of a stream must be an arbitration update")
        try:
            if kind == "packet":
                self._packet_out(client, message.packet)
            elif kind == "digest_ack":
                if not self.streams.arbiter.is_primary(client):
                    raise P4Error(Rpc.PERMISSION_DENIED, "only the primary acknowledges digests")
                running = _existing(self._pipeline)
                if message.digest_ack.digest_id not in running.schema.digests:
                    raise invalid(f"the P4Info has no digest of id 0x{message.digest_ack.digest_id:08x}")
                running.digests.ack(message.digest_ack)
            else:
                raise invalid(f"stream message {kind or 'without content'} is not supported")
        except (P4Error, EngineError) as error:
            box.put_error(p4r.StreamMessageResponse(error=stream_error(error, message, kind)))

    def _packet_out(self, client: Client, packet: p4r.PacketOut) -> None:
        if not self.streams.arbiter.is_primary(client):
            raise P4Error(Rpc.PERMISSION_DENIED, "packet-out from a client that is not primary")
        header = _existing(self._pipeline).schema.packet_out
        if header is None:
            if len(packet.metadata):
                raise invalid("the pipeline has no packet_out header: metadata cannot be given")
            self.backend.packet_out(packet.payload)
        else:
            self.backend.packet_out(header.pack(packet.metadata) + packet.payload)

    # -- events ----------------------------------------------------------------------------------------------------

    def _on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, PortStatus):
                for callback in tuple(self.on_port):
                    callback(event)
        running = self._pipeline
        if running is None:
            return
        try:
            codec = self.backend.commands.codec
        except EngineError:  # the program was just taken away
            return
        self.streams.broadcast(notices(running, codec, events, time.time_ns()))
        due = running.digests.next_due_ns()
        if due is not None:
            due_s = time.monotonic() + (due - time.time_ns()) / 1e9
            with self._wake:
                if due_s < self._ticks_s:
                    self._wake.notify()

    def _listen(self, also: Iterable[int] = ()) -> None:
        """Have the data plane send the digests that are configured, those of the ids ``also``, and no others."""
        running = self._pipeline
        wanted = frozenset[int]()
        if running is not None:
            digests = running.schema.digests
            wanted = frozenset(digests[id_].index for id_ in (*running.digests.configured(), *also) if id_ in digests)
        if wanted != self._wanted:
            self.backend.follow(self._on_events, wanted)
            self._wanted = wanted

    def _tick(self) -> None:
        while True:
            with self._wake:  # whoever makes something due looks at what is found here
                if self._stopped:
                    return
                now_ns, running = time.time_ns(), self._pipeline
                due = running.digests.next_due_ns() if running else None
                wait = _IDLE_POLL_S if due is None else max(0.0, (due - now_ns) / 1e9)
                if running is not None and running.extras.dirty:
                    wait = min(wait, _FLUSH_S)
                self._ticks_s = time.monotonic() + wait
                if wait > 0:
                    self._wake.wait(wait)
                if self._stopped:
                    return
            self._reads.sweep()
            running = self._pipeline
            if running is None:
                continue
            self.streams.broadcast(digest_notices(running.digests.due(time.time_ns())))
            if running.extras.dirty:
                with self._write_lock:
                    self._keep_extras(force=True)

    # -- requests --------------------------------------------------------------------------------------------------

    def _authorize(self, request: p4r.WriteRequest | _SetRequest) -> RoleRules | None:
        self.check_device(request.device_id)
        if request.role_id:
            raise P4Error(Rpc.UNIMPLEMENTED, "role_id is deprecated: use role")
        self.streams.arbiter.check(request.role, election_of(request))
        return self.streams.rules(request.role)

    def write_quickly(self, data: bytes) -> bool:
        """A serialized Write of one register cell or one plain table entry; False when :meth:`write` has to do it.

        False also for whatever goes wrong: nothing was changed then (unless the data plane fell silent with the
        request), and :meth:`write` says what it is.
        """
        if len(data) > SINGLE_MOST:  # this thread serves everybody
            return False
        try:
            running = self._addressed
            if running is not None and running.single is not None:
                outcome = self._write_single(running, running.single, data)
                if outcome != Outcome.LEFT:
                    return outcome == Outcome.DONE
            request = p4r.WriteRequest.FromString(data)
            updates = request.updates
            if len(updates) != 1 or running is None or request.atomicity or self._authorize(request) is not None:
                return False
            update = updates[0]
            if update.entity.HasField("register_entry"):
                if update.type != p4r.Update.MODIFY:
                    return False
                running.writer.register(update.entity.register_entry)
                return True
            if not update.entity.HasField("table_entry") or not self._write_lock.acquire(blocking=False):
                return False
            try:
                return self._addressed is running and running.writer.write_plain(update)
            finally:
                self._keep_names(running)
                self._write_lock.release()
        except (P4Error, EngineError, DecodeError):
            return False

    def _write_single(self, running: Pipeline, single: Single, data: bytes) -> int:
        """:class:`Outcome` of a serialized Write by native code, which knows the default role's primary only."""
        primary = self.streams.arbiter.primary("")
        election = primary.election if primary is not None else None
        if election is None or self.streams.rules("") is not None:
            return Outcome.LEFT
        locked = self._write_lock.acquire(blocking=False)
        try:
            tables = locked and self._addressed is running and not running.extras.metadata
            return single.write(data, self.device_id, election, tables=tables)
        finally:
            if locked:
                self._write_lock.release()

    def write_natively(self, data: bytes) -> bool:
        """A serialized Write of many plain table entries; False when :meth:`write` has to do it, errors as there."""
        running = self._addressed
        decoded = running.decoder.decode(data) if running is not None else None
        if running is None or decoded is None or decoded.role_id or self.streams.rules(decoded.role) is not None:
            return False
        self.check_device(decoded.device_id)
        self.streams.arbiter.check(decoded.role, decoded.election)
        with self._write_lock:
            self.streams.arbiter.check(decoded.role, decoded.election)  # there may be another primary meanwhile
            if self._addressed is not running:
                raise P4Error(Rpc.ABORTED, "the forwarding pipeline was replaced meanwhile")
            if running.extras.metadata:  # entries may have some, which goes when they do
                return False
            try:
                running.writer.write_decoded(decoded, data)
            except DatapathError as error:
                raise P4Error(int(error.code), str(error)) from None
        return True

    def write(self, request: p4r.WriteRequest) -> None:
        """The Write RPC; :class:`P4Error` for the request, :class:`BatchError` for some of its updates."""
        rules = self._authorize(request)
        running = self.pipeline
        updates = request.updates
        if rules is not None:
            rules.check_all(request)
        if len(updates) == 1 and updates[0].entity.HasField("register_entry"):
            update = updates[0]
            if update.type == p4r.Update.MODIFY:  # the flip: waits for no other writer
                try:
                    running.writer.register(update.entity.register_entry)
                except P4Error as error:
                    raise BatchError([error]) from None
                except DatapathError as error:
                    raise BatchError([P4Error(int(error.code), str(error))]) from None
                return
        with self._write_lock:
            self._authorize(request)  # there may be another primary meanwhile
            if self._addressed is not running:
                raise P4Error(Rpc.ABORTED, "the forwarding pipeline was replaced meanwhile")
            digests = [u.entity.digest_entry.digest_id for u in updates if u.entity.HasField("digest_entry")]
            try:
                if digests:  # before what the same request adds may cause some
                    self._listen(digests)
                try:
                    running.writer.write(request)
                finally:
                    self._keep_extras()
                    self._listen()
            except DatapathError as error:
                raise P4Error(int(error.code), str(error)) from None

    def read(self, request: p4r.ReadRequest, peer: str, cancel: Callable[[], None]) -> Iterator[bytes]:
        """The Read RPC: serialized responses, all of one state that no Write has half changed.

        ``peer`` is the client's address, ``cancel`` breaks the RPC off: see :class:`Budget`.
        """
        self.check_device(request.device_id)
        rules = self.streams.rules(request.role)
        covers = None if rules is None else rules.covers
        try:
            with self._reads.admit(peer, cancel) as hold:
                with self._between_writes(request):
                    running = self.pipeline
                    messages = running.reader.read(request, hold, covers)
                for message in messages:
                    if self._addressed is not running:
                        raise P4Error(Rpc.ABORTED, "the forwarding pipeline was replaced meanwhile")
                    hold.offered()
                    yield message
                    hold.taken()
        except DatapathError as error:
            raise P4Error(int(error.code), str(error)) from None

    @contextlib.contextmanager
    def _between_writes(self, request: p4r.ReadRequest) -> Iterator[None]:
        """No Write meanwhile, unless ``request`` asks for cells only. Reads queue: a Write waits for one at most."""
        if is_of_cells(request):
            yield
        else:
            with self._read_lock, self._write_lock:
                yield

    def set_config(self, request: _SetRequest) -> None:
        """The SetForwardingPipelineConfig RPC."""
        rules = self._authorize(request)
        if rules is not None and not rules.pushes_pipeline:
            raise P4Error(Rpc.PERMISSION_DENIED, f"role {request.role!r} may not push a pipeline")
        action = request.action
        names = {value.number for value in _SetRequest.Action.DESCRIPTOR.values}
        if action not in names or action == _SetRequest.UNSPECIFIED:
            raise invalid("the action of SetForwardingPipelineConfig is not specified")
        if action == _SetRequest.COMMIT:
            if request.HasField("config"):
                raise invalid("COMMIT takes the saved config: the request must have none")
        elif not request.HasField("config"):
            raise invalid("the request has no config")
        if action != _SetRequest.COMMIT:
            pipelines.verify(request.config, self.backend)
        with self._write_lock:
            self._authorize(request)  # there may be another primary meanwhile
            if action == _SetRequest.VERIFY_AND_SAVE:
                self._save(request.config)
                keep_config(self.backend, SAVED, request.config)
            elif action == _SetRequest.VERIFY_AND_COMMIT:
                self._commit(request.config, lambda old: pipelines.activate(request.config, self.backend))
            elif action == _SetRequest.RECONCILE_AND_COMMIT:
                self._commit(request.config, lambda old: reconcile(old, request.config, self.backend))
            elif action == _SetRequest.COMMIT:
                stage = self._stage
                if stage is None:
                    raise P4Error(Rpc.NOT_FOUND, "no config was saved with VERIFY_AND_SAVE")
                self._commit(stage.pipeline.config, lambda old: commit(old, stage, self.backend))

    def _save(self, config: p4r.ForwardingPipelineConfig | None) -> None:
        """From now on reads and writes refer to ``config``; None: to the running one again."""
        former, self._stage = self._stage, Stage(config, self.backend) if config is not None else None
        if former is not None:
            former.close()

    def _commit(self, config: p4r.ForwardingPipelineConfig, replaced: Callable[[Pipeline | None], Pipeline]) -> None:
        """Run ``config``, as ``replaced`` makes it of the pipeline that runs now."""
        old = self._pipeline
        try:
            self._pipeline = None
            try:
                self._pipeline = replaced(old)
            except (P4Error, EngineError):
                self._pipeline = old  # what could not be loaded has not replaced anything
                raise
            finally:
                self._listen()  # the same number may be another digest now
            keep_config(self.backend, CONFIG, config)
            self._pipeline.extras.dirty = True
            self.backend.state_put(NAMES, self._pipeline.schema.translations.pack())
            self._keep_extras(force=True)
            if self._stage is not None:
                self._save(None)
                keep_config(self.backend, SAVED, None)
        except DatapathError as error:
            raise P4Error(int(error.code), str(error)) from None
        log.info("pipeline committed (cookie %d)", config.cookie.cookie)

    def get_config(self, request: p4r.GetForwardingPipelineConfigRequest) -> p4r.GetForwardingPipelineConfigResponse:
        """The GetForwardingPipelineConfig RPC; the answer has no config while there is none."""
        self.check_device(request.device_id)
        running = self._pipeline
        return pipelines.answer(running.config if running is not None else None, request.response_type)

    def install(self, config: p4r.ForwardingPipelineConfig) -> None:
        """Load a config without a controller (the program named on the command line)."""
        pipelines.verify(config, self.backend)
        with self._write_lock:
            self._commit(config, lambda old: pipelines.activate(config, self.backend))

    def has_pipeline(self) -> bool:
        return self._pipeline is not None

    def _keep_names(self, running: Pipeline) -> None:
        if running is not self._pipeline:
            return
        translations = running.schema.translations
        if not translations.changed:
            return
        try:
            self.backend.state_put(NAMES, translations.pack())
        except DatapathError as error:
            log.warning("the data plane did not keep translated strings: %s", error)

    def _keep_extras(self, *, force: bool = False) -> None:
        running = self._pipeline
        if running is None:
            return
        self._keep_names(running)
        if not running.extras.dirty:
            return
        if not force and len(running.extras.metadata) > EAGER:
            with self._wake:
                self._wake.notify()
            return
        running.extras.dirty = False
        try:
            self.backend.state_put(EXTRAS, running.extras.pack(running.schema))
        except DatapathError as error:
            running.extras.dirty = True
            log.warning("the data plane did not keep the server's state: %s", error)


def _existing(pipeline: Pipeline | None) -> Pipeline:
    if pipeline is None:
        raise P4Error(Rpc.FAILED_PRECONDITION, NO_PIPELINE)
    return pipeline
