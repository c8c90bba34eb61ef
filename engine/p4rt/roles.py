"""What a role may do: the ``P4RoleConfig`` that Stratum defined and finsy sends.

P4Runtime leaves the format of ``Role.config`` to the target. Without a config a role has full access, gets all
packet-ins and may push pipelines.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from engine.p4rt.errors import BatchError, P4Error, Rpc, invalid
from engine.p4rt.stubs import p4r, stratum

_ID_FIELDS = {
    "table_entry": "table_id",
    "action_profile_member": "action_profile_id",
    "action_profile_group": "action_profile_id",
    "meter_entry": "meter_id",
    "counter_entry": "counter_id",
    "register_entry": "register_id",
    "digest_entry": "digest_id",
    "value_set_entry": "value_set_id",
}


class RoleRules:
    """Decoded rules of one role."""

    def __init__(self, config: stratum.P4RoleConfig) -> None:
        self._ids = {*config.exclusive_p4_ids, *config.shared_p4_ids}
        self.pushes_pipeline = config.can_push_pipeline
        self._receives = config.receives_packet_ins
        self._filter = (config.packet_in_filter.metadata_id, config.packet_in_filter.value.lstrip(b"\0"))

    @staticmethod
    def of(role: p4r.Role) -> RoleRules | None:
        """The rules in an arbitration's role; None where it has no config."""
        if not role.HasField("config"):
            return None
        if not role.name:
            raise invalid("the default role has full access: a config is not allowed")
        config = stratum.P4RoleConfig()
        if not role.config.Is(config.DESCRIPTOR):
            raise invalid(f"role config {role.config.type_url}: only stratum's P4RoleConfig is known")
        try:
            role.config.Unpack(config)
        except DecodeError:
            raise invalid("the role's config is no P4RoleConfig, whatever its type says") from None
        return RoleRules(config)

    def has(self, id_: int) -> bool:
        """Whether an object of the P4Info is within the role."""
        return not self._ids or id_ in self._ids

    def covers(self, entity: p4r.Entity) -> bool:
        """Whether an entity is within the role; what belongs to no object of the P4Info always is."""
        return self._outside(entity) is None

    def check(self, entity: p4r.Entity) -> None:
        """PERMISSION_DENIED for an update of something outside the role."""
        outside = self._outside(entity)
        if outside is not None:
            raise P4Error(Rpc.PERMISSION_DENIED, f"the role may not write {outside}")

    def _outside(self, entity: p4r.Entity) -> str | None:
        """What an entity outside of the role is; None when it is inside."""
        kind = entity.WhichOneof("entity") or ""
        message: Any = getattr(entity, kind) if kind else None
        if kind in ("direct_counter_entry", "direct_meter_entry"):
            message, kind = message.table_entry, "table_entry"
        if kind not in _ID_FIELDS:
            return None
        id_ = getattr(message, _ID_FIELDS[kind])
        return None if self.has(id_) else f"{kind} of id 0x{id_:08x}"

    def check_all(self, request: p4r.WriteRequest) -> None:
        """BatchError when an update is outside the role; then none may be applied."""
        errors: list[P4Error | None] = []
        for update in request.updates:
            try:
                self.check(update.entity)
                errors.append(None)
            except P4Error as error:
                errors.append(error)
        if any(errors):
            raise BatchError([error or P4Error(Rpc.ABORTED, "not applied") for error in errors])

    def wants(self, packet: p4r.PacketIn) -> bool:
        """Whether the role gets this packet-in."""
        if not self._receives:
            return False
        id_, value = self._filter
        if not id_:
            return True
        return any(m.metadata_id == id_ and m.value.lstrip(b"\0") == value for m in packet.metadata)
