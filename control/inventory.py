"""The operator's configuration file of ``shadowplane serve``: where the switches are and how to talk to them, further
sources of telemetry, what history keeps, flows' priorities and the control share.

::

    tls:                                  # for every switch that names none of its own
      ca: certs/ca.pem                    # paths are relative to this file
      cert: certs/controller.pem          # with key: mutual TLS
      key: certs/controller.key
    switches:
      s1: {address: 10.0.0.1:9559, device_id: 1}
      s2: {address: leaf2.example.net:9559, device_id: 2, tls: {ca: other.pem, server_name: leaf2}}
      s3: {address: 127.0.0.1:9561, device_id: 3, gnmi: 127.0.0.1:10561}  # where gNMI has a port of its own
    sources:
      node_exporter:
        - {url: "http://10.0.0.1:9100/metrics", element: s1, interval_s: 1, ports: {swp1: 1, swp2: 2}}
    history: {age_days: 30, size_gb: 20}
    priorities: {h4: 7}                   # of the traffic to a host, 0 (default) to 7
    control_share: {share: 0.02, up_to_priority: 0, seed: 1}
    gnmi: off                             # no polling at all: digests and in-band reports have to do

Unknown and mistyped keys are errors that name the file and the key. An address that is not loopback is spoken to by
TLS, verified against ``ca`` (the system's authorities without one); ``tls: off`` has to be said.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from finsy import GRPCCredentialsTLS
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from control.errors import InputError
from control.inband.runtime import InbandConfig
from control.outcomes import ControlShare
from control.settings import parse_address

MAX_BYTES = 1 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _off(value: Any) -> Any:
    return "off" if value is False else value  # YAML 1.1 reads a bare `off` as false


class TlsFiles(_Strict):
    """PEM files. ``server_name``: what the switch's certificate says, where that is not its address."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""

    @model_validator(mode="after")
    def _pair(self) -> TlsFiles:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together")
        return self


Tls = Annotated[TlsFiles | Literal["off"] | None, BeforeValidator(_off)]


class SwitchEntry(_Strict):
    address: str
    device_id: int = Field(ge=1)
    gnmi: str = ""
    tls: Tls = None


class NodeExporter(_Strict):
    """``ports``: interface names of the machine, and the switch's port that each of them is."""

    url: str
    element: str
    interval_s: float = Field(default=1.0, ge=0.1)
    timeout_s: float = Field(default=2.0, gt=0)
    ports: dict[str, int] = Field(default_factory=dict)


class Sources(_Strict):
    node_exporter: list[NodeExporter] = Field(default_factory=list)


class HistoryLimits(_Strict):
    age_days: float = Field(default=7.0, ge=0)
    size_gb: float = Field(default=2.0, ge=0)


class Share(_Strict):
    share: float = Field(default=0.0, ge=0, le=1)
    up_to_priority: int = Field(default=0, ge=0, le=7)
    seed: int = 1


class Config(_Strict):
    """The whole file."""

    tls: Tls = None
    switches: dict[str, SwitchEntry] = Field(default_factory=dict)
    sources: Sources = Sources()
    history: HistoryLimits = HistoryLimits()
    priorities: dict[str, Annotated[int, Field(ge=0, le=7)]] = Field(default_factory=dict)
    control_share: Share = Share()
    inband: InbandConfig | None = None
    gnmi: bool = True

    @property
    def share(self) -> ControlShare:
        item = self.control_share
        return ControlShare(item.share, item.up_to_priority, item.seed)


@dataclass(frozen=True, slots=True)
class Target:
    """How to reach one switch. ``credentials`` None: not encrypted; ``gnmi``: where it is not the usual address."""

    address: str
    device_id: int
    credentials: GRPCCredentialsTLS | None = None
    gnmi: str = ""


def load(path: Path) -> Config:
    """Read a configuration file; raises :class:`InputError` naming the file and the key or line."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES} bytes")
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark is not None else ""
        raise InputError(f"{path}:{where} not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: a mapping is expected")
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{path}: {_first(error)}") from error


def targets(config: Config, source: Path | None, usual: Mapping[str, Target]) -> dict[str, Target]:
    """How to reach every switch of ``usual`` (as the flags and the topology say), corrected by the configuration.

    Raises :class:`InputError` for switches that the topology lacks, addresses that are none and unreadable files.
    """
    found = dict(usual)
    folder = source.parent if source is not None else Path()
    for name, entry in config.switches.items():
        if name not in usual:
            raise InputError(f"{source}: switches.{name}: the topology has no such switch")
        parse_address(entry.address)
        if entry.gnmi:
            parse_address(entry.gnmi)
        found[name] = Target(entry.address, entry.device_id, gnmi=entry.gnmi)
    seen: dict[tuple[str, int], str] = {}
    for name, target in found.items():
        twin = seen.setdefault((target.address, target.device_id), name)
        if twin != name:
            raise InputError(f"{source}: {twin} and {name} have the same address and device id")
        own = config.switches[name].tls if name in config.switches else None
        credentials = _credentials(own if own is not None else config.tls, target.address, folder)
        found[name] = replace(target, credentials=credentials)
    return found


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT stays on this machine.

    >>> is_loopback("127.0.0.1:9559"), is_loopback("localhost:1"), is_loopback("[::1]:1"), is_loopback("10.0.0.1:1")
    (True, True, True, False)
    """
    host = address.rpartition(":")[0].strip("[]")
    if host in ("localhost", "localhost.localdomain"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _credentials(tls: TlsFiles | Literal["off"] | None, address: str, folder: Path) -> GRPCCredentialsTLS | None:
    if tls == "off" or (tls is None and is_loopback(address)):
        return None
    files = tls if isinstance(tls, TlsFiles) else TlsFiles()

    def read(path: Path | None) -> bytes | None:
        if path is None:
            return None
        place = path if path.is_absolute() else folder / path
        try:
            return place.read_bytes()
        except OSError as error:
            raise InputError(f"{place}: {error.strerror or error}") from error

    return GRPCCredentialsTLS(
        cacert=read(files.ca),
        cert=read(files.cert),
        private_key=read(files.key),
        target_name_override=files.server_name,
    )


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    key = ".".join(str(part) for part in detail["loc"])
    text = {"extra_forbidden": "unknown key", "missing": "missing key"}.get(detail["type"])
    return f"{text} {key!r}" if text else f"{key}: {detail['msg']}"
