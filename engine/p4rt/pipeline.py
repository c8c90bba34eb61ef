"""Forwarding pipeline configs: verification, activation, and finding the running one again."""

from __future__ import annotations

from dataclasses import dataclass

from engine.api import EngineError, ProgramInfo
from engine.commands import Commands
from engine.p4rt.backend import Backend, device_json, translated
from engine.p4rt.decoder import Decoder
from engine.p4rt.digests import DigestBuffer
from engine.p4rt.errors import P4Error, Rpc, invalid
from engine.p4rt.reader import Reader
from engine.p4rt.schema import Schema, build
from engine.p4rt.single import Single
from engine.p4rt.state import Extras
from engine.p4rt.stubs import p4r
from engine.p4rt.writer import Writer


@dataclass(slots=True)
class Pipeline:
    """A running pipeline and everything that works on it."""

    config: p4r.ForwardingPipelineConfig
    schema: Schema
    extras: Extras
    digests: DigestBuffer
    writer: Writer
    reader: Reader
    decoder: Decoder
    single: Single | None

    @staticmethod
    def create(
        config: p4r.ForwardingPipelineConfig, schema: Schema, commands: Commands, extras: Extras | None = None
    ) -> Pipeline:
        extras = extras or Extras()
        digests = DigestBuffer()
        for entry in extras.digests:
            digests.configure(p4r.Update.INSERT, schema.digests[entry.digest_id], entry)
        writer = Writer(schema, commands, extras, digests)
        reader = Reader(schema, commands, extras, digests, writer.profiles)
        decoder = Decoder(schema)
        single = Single(schema, decoder, commands.exchange) if commands.exchange is not None else None
        return Pipeline(config, schema, extras, digests, writer, reader, decoder, single)


def answer(config: p4r.ForwardingPipelineConfig | None, kind: int) -> p4r.GetForwardingPipelineConfigResponse:
    """The parts of a config that a client asked for; without one the answer is empty."""
    types = p4r.GetForwardingPipelineConfigRequest
    if kind not in types.ResponseType.values():
        raise invalid(f"unknown response type {kind}")
    out = p4r.GetForwardingPipelineConfigResponse()
    if config is None:
        return out
    out.config.SetInParent()
    if config.HasField("cookie"):
        out.config.cookie.CopyFrom(config.cookie)
    if kind in (types.ALL, types.P4INFO_AND_COOKIE):
        out.config.p4info.CopyFrom(config.p4info)
    if kind in (types.ALL, types.DEVICE_CONFIG_AND_COOKIE):
        out.config.p4_device_config = config.p4_device_config
    return out


def verify(config: p4r.ForwardingPipelineConfig, backend: Backend) -> Schema:
    """Compile the program and bind the P4Info to it, without touching what runs."""
    if not config.HasField("p4info"):
        raise invalid("the config has no p4info")
    if not config.p4_device_config:
        raise invalid("the config has no p4_device_config")
    try:
        program = backend.compile(device_json(config.p4_device_config))
    except EngineError as error:
        raise translated(error) from None
    return build(config.p4info, program)


def activate(config: p4r.ForwardingPipelineConfig, backend: Backend, names: bytes | None = None) -> Pipeline:
    """Load a verified config with fresh state; ``names``: translations to keep."""
    program = load(config, backend)
    return Pipeline.create(config, build(config.p4info, program, names), backend.commands)


def load(config: p4r.ForwardingPipelineConfig, backend: Backend) -> ProgramInfo:
    try:
        return backend.load(device_json(config.p4_device_config))
    except EngineError as error:
        raise translated(error) from None


def reattach(
    config: p4r.ForwardingPipelineConfig, extras: bytes | None, names: bytes | None, backend: Backend
) -> Pipeline:
    """The pipeline that the data plane runs already; :class:`P4Error` when it is not that one."""
    program = backend.commands.program
    if program is None:
        raise P4Error(Rpc.FAILED_PRECONDITION, "the data plane runs no program")
    schema = build(config.p4info, program, names)
    return Pipeline.create(config, schema, backend.commands, Extras.unpack(extras, schema) if extras else None)
