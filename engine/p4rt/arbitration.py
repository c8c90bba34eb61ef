"""Who may write: client arbitration by role and election id (P4Runtime 1.4, "Client Arbitration").

Pure state, no I/O: methods return the notifications to send. Per (device, role) the client with the highest election
id is primary, but never one whose id is below the highest seen so far; without a primary (it left) the role stays
empty until somebody offers at least that id. A client without an election id is always a backup.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.p4rt.errors import P4Error, Rpc, invalid
from engine.p4rt.stubs import p4r, rpc_status

Election = int | None


@dataclass(slots=True, eq=False)
class Client:
    """One stream. ``role`` is None until its first arbitration message."""

    role: str | None = None
    election: Election = None


@dataclass(slots=True)
class _Role:
    name: str
    clients: list[Client] = field(default_factory=list)
    highest: int = -1
    primary: Client | None = None
    given: p4r.Role | None = None  # as the latest primary gave it


Notice = tuple[Client, p4r.MasterArbitrationUpdate]


def election_of(
    message: p4r.MasterArbitrationUpdate | p4r.WriteRequest | p4r.SetForwardingPipelineConfigRequest,
) -> Election:
    """The 128-bit election id, None when absent."""
    if not message.HasField("election_id"):
        return None
    return message.election_id.high << 64 | message.election_id.low


class Arbiter:
    """Arbitration of one device."""

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id
        self._roles: dict[str, _Role] = {}

    def update(self, client: Client, message: p4r.MasterArbitrationUpdate) -> list[Notice]:
        """Handle an arbitration message; the first notice answers ``client``. Errors end the stream."""
        if message.device_id != self.device_id:
            code = Rpc.NOT_FOUND if client.role is None else Rpc.FAILED_PRECONDITION  # the stream has a device already
            raise P4Error(code, f"device id {message.device_id} is unknown; this is {self.device_id}")
        if message.role.id:
            raise P4Error(Rpc.UNIMPLEMENTED, "Role.id is deprecated: use Role.name")
        name = message.role.name
        if client.role is not None and client.role != name:
            raise P4Error(Rpc.FAILED_PRECONDITION, f"the stream belongs to role {client.role!r}, not {name!r}")
        election = election_of(message)
        role = self._roles.setdefault(name, _Role(name))
        if election is not None and any(o.election == election for o in role.clients if o is not client):
            self._tidy(name)
            raise invalid(f"Election id {_text(election)} already used by another client of the role")
        before = role.primary
        if client.role is None:
            role.clients.append(client)
            client.role = name
        client.election = election
        if election is not None and election >= role.highest:
            role.highest = election
            role.primary = client
            role.given = message.role if message.HasField("role") else None
        elif role.primary is client:
            role.primary = None  # it lowered its own id
        notices = [self._notice(role, client)]
        if role.primary is not before or (before is client and role.primary is client):
            notices += [self._notice(role, other) for other in role.clients if other is not client]
        return notices

    def leave(self, client: Client) -> list[Notice]:
        """The stream ended."""
        if client.role is None:
            return []
        role = self._roles[client.role]
        role.clients.remove(client)
        if role.primary is not client:
            return []
        role.primary = None
        return [self._notice(role, other) for other in role.clients]

    def primary(self, role: str) -> Client | None:
        found = self._roles.get(role)
        return found.primary if found else None

    def primaries(self) -> list[Client]:
        """The primary of every role that has one."""
        return [role.primary for role in self._roles.values() if role.primary is not None]

    def is_primary(self, client: Client) -> bool:
        return client.role is not None and self.primary(client.role) is client

    def check(self, role: str, election: Election) -> None:
        """PERMISSION_DENIED unless ``election`` is that of the role's primary now; NOT_FOUND for an unknown role."""
        primary = self.primary(role)
        if primary is None or primary.election != election:
            if role and role not in self._roles:
                raise P4Error(Rpc.NOT_FOUND, f"role {role!r} is unknown: no client has it")
            named = f"role {role!r}" if role else "the default role"
            raise P4Error(Rpc.PERMISSION_DENIED, f"not the primary of {named} (election id {_text(election)})")

    def _tidy(self, name: str) -> None:
        role = self._roles[name]
        if not role.clients and role.highest < 0:
            del self._roles[name]

    def _notice(self, role: _Role, client: Client) -> Notice:
        update = p4r.MasterArbitrationUpdate(device_id=self.device_id)
        if role.given is not None:
            update.role.CopyFrom(role.given)
        elif role.name:
            update.role.name = role.name
        if role.highest >= 0:
            update.election_id.high = role.highest >> 64
            update.election_id.low = role.highest & (1 << 64) - 1
        if role.primary is None:
            update.status.CopyFrom(rpc_status.Status(code=Rpc.NOT_FOUND, message="no primary"))
        elif role.primary is client:
            update.status.CopyFrom(rpc_status.Status(code=Rpc.OK, message="is primary"))
        else:
            update.status.CopyFrom(rpc_status.Status(code=Rpc.ALREADY_EXISTS, message="is backup"))
        return client, update


def _text(election: Election) -> str:
    return "unset" if election is None else str(election)
