"""Action profile members, groups and one-shot action sets.

A one-shot set (``ActionProfileActionSet``) becomes a group and members with ids from :data:`ONE_SHOT_BASE` upward,
which no client may use or sees; they are found again in the data plane itself after a restart.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from engine.api import ActionCall, DatapathError, GroupMember, Op
from engine.codec import Command, group_members
from engine.commands import Commands
from engine.p4rt.actions import GROUP
from engine.p4rt.errors import P4Error, Rpc, invalid, not_found
from engine.p4rt.schema import ProfileSchema, Schema, unknown
from engine.p4rt.state import Extras
from engine.p4rt.stubs import p4r
from engine.p4rt.tables import ONE_SHOT_BASE, RawEntry, TableSchema
from engine.p4rt.values import delimited, encode, port_number

_GROUP_BYTES, _MEMBER_BYTES = 400, 400  # of Python objects, once read
_SET = p4r.TableAction.ACTION_PROFILE_ACTION_SET_FIELD_NUMBER


def _watch_port(item: Any, what: str) -> int | None:
    kind = item.WhichOneof("watch_kind")
    if kind is None:
        return None
    return port_number(item.watch_port if kind == "watch_port" else item.watch, f"{what}: watch_port")


class Profiles:
    """Writes and reads of one pipeline's action profiles."""

    def __init__(self, schema: Schema, commands: Commands, extras: Extras) -> None:
        self._schema = schema
        self._commands = commands
        self._extras = extras
        self._next: dict[int, int] = {}  # profile index -> next one-shot id

    def profile(self, id_: int) -> ProfileSchema:
        return self._schema.profiles.get(id_) or unknown("action profile", id_, self._schema.profiles.values())

    # -- members ---------------------------------------------------------------------------------------------------

    def write_member(self, op: Op, entry: p4r.ActionProfileMember) -> None:
        profile = self.profile(entry.action_profile_id)
        member = _client_id(entry.member_id, f"action profile {profile.name}: member")
        action = b"\0" if op is Op.DELETE else self._action(profile, entry.action)
        self._member(op, profile, member, action)

    def _member(self, op: Op, profile: ProfileSchema, member: int, action: bytes) -> None:
        try:
            self._commands.command(Command.MEMBER_WRITE, struct.pack("<BII", op, profile.index, member) + action)
        except DatapathError as error:
            raise P4Error(int(error.code), f"action profile {profile.name}: member {member}: {error}") from None

    def _action(self, profile: ProfileSchema, action: p4r.Action) -> bytes:
        schema = profile.actions.get(action.action_id)
        if schema is None:
            raise invalid(f"action profile {profile.name} has no action with id {action.action_id}")
        return schema.encode(action)

    def members(self, profile: ProfileSchema, member: int = 0) -> list[p4r.ActionProfileMember]:
        """All visible members, or the one asked for."""
        found = self._commands.member_read(profile.index)
        return [
            p4r.ActionProfileMember(
                action_profile_id=profile.id,
                member_id=number,
                action=profile.by_index[call.action].message(call.params),
            )
            for number, call in sorted(found.items())
            if number < ONE_SHOT_BASE and member in (0, number)
        ]

    # -- groups ----------------------------------------------------------------------------------------------------

    def write_group(self, op: Op, entry: p4r.ActionProfileGroup) -> None:
        profile = self.profile(entry.action_profile_id)
        what = f"action profile {profile.name}: group {entry.group_id}"
        group = _client_id(entry.group_id, f"action profile {profile.name}: group")
        if not profile.with_selector:
            raise invalid(f"action profile {profile.name} has no selector, hence no groups")
        members = []
        if op is not Op.DELETE:
            for item in entry.members:
                weight = member_weight(profile, item.weight, f"{what}: member {item.member_id}")
                members.append(GroupMember(item.member_id, weight, _watch_port(item, what)))
            if len({m.member for m in members}) != len(members):
                raise invalid(f"{what} lists a member twice")
            if entry.max_size < 0 or (profile.max_group_size and entry.max_size > profile.max_group_size):
                raise invalid(
                    f"{what}: max_size {entry.max_size} exceeds the selector's limit of {profile.max_group_size}"
                )
            limit = entry.max_size or profile.max_group_size
            self._check_size(profile, limit, members, what, Rpc.RESOURCE_EXHAUSTED, by_members=profile.sum_of_members)
        limits = self._extras.group_limits
        key = (profile.id, group)
        if op is Op.MODIFY and entry.max_size and limits.get(key, entry.max_size) != entry.max_size:
            raise invalid(f"{what}: max_size cannot be modified")
        self._group(op, profile, group, members, what)
        if op is Op.DELETE:
            self._extras.dirty |= limits.pop(key, None) is not None
        elif entry.max_size and limits.get(key) != entry.max_size:
            limits[key] = entry.max_size
            self._extras.dirty = True

    @staticmethod
    def _check_size(
        profile: ProfileSchema, limit: int, members: Sequence[GroupMember], what: str, code: Rpc, *, by_members: bool
    ) -> None:
        """Refuse with ``code`` what exceeds ``limit`` (0: none), by the selector's ``size_semantics``."""
        if by_members:
            if limit and len(members) > limit:
                raise P4Error(code, f"{what}: {len(members)} members, the limit is {limit}")
            heaviest = max((member.weight for member in members), default=0)
            if profile.max_member_weight and heaviest > profile.max_member_weight:
                raise invalid(f"{what}: weight {heaviest}, the limit is {profile.max_member_weight} a member")
            return
        total = sum(member.weight for member in members)
        if limit and total > limit:
            raise P4Error(code, f"{what}: weights sum to {total}, the limit is {limit}")

    def _group(self, op: Op, profile: ProfileSchema, group: int, members: Sequence[GroupMember], what: str) -> None:
        try:
            payload = struct.pack("<BII", op, profile.index, group) + group_members(members)
            self._commands.command(Command.GROUP_WRITE, payload)
        except DatapathError as error:
            raise P4Error(int(error.code), f"{what}: {error}") from None

    def groups(self, profile: ProfileSchema, group: int = 0) -> list[p4r.ActionProfileGroup]:
        """All visible groups, or the one asked for."""
        out = []
        for number, members in sorted(self._commands.group_read(profile.index).items()):
            if number >= ONE_SHOT_BASE or group not in (0, number):
                continue
            entry = p4r.ActionProfileGroup(action_profile_id=profile.id, group_id=number)
            entry.max_size = self._extras.group_limits.get((profile.id, number), 0)
            for member in members:
                item = entry.members.add(
                    member_id=member.member, weight=0 if profile.weights_disallowed else member.weight
                )
                if member.watch_port is not None:
                    item.watch_port = encode(member.watch_port)
            out.append(entry)
        return out

    # -- one-shot action sets ---------------------------------------------------------------------------------------

    def one_shot(self, table: TableSchema, action_set: p4r.ActionProfileActionSet) -> int:
        """Create the hidden members and group; returns the group's id."""
        if table.profile is None:
            raise invalid(f"table {table.name} has no action profile: an action set cannot be used")
        profile = self.profile(table.profile)
        what = f"table {table.name}: action set"
        if not profile.with_selector:
            raise invalid(f"{what} needs an action selector; {profile.name} is an action profile")
        sets = p4r.ActionProfileActionSet
        if action_set.action_selection_mode == sets.RANDOM:
            raise P4Error(Rpc.UNIMPLEMENTED, f"{what}: v1model selects by hash, not at random")
        by_members = profile.sum_of_members
        if action_set.size_semantics != sets.DEFAULT_SIZE_DETERMINED_BY_ACTION_SELECTOR:
            by_members = action_set.size_semantics == sets.SUM_OF_MEMBERS
        actions = []
        for item in action_set.action_profile_actions:
            weight = member_weight(profile, item.weight, what)
            actions.append((self._action(profile, item.action), weight, _watch_port(item, what)))
        members = [GroupMember(0, weight, watch) for _action, weight, watch in actions]
        limit = profile.max_group_size
        self._check_size(profile, limit, members, what, Rpc.INVALID_ARGUMENT, by_members=by_members)
        first = self._reserve(profile, len(actions) + 1)
        created: list[int] = []
        try:
            for offset, (action, _weight, _watch) in enumerate(actions):
                self._member(Op.INSERT, profile, first + 1 + offset, action)
                created.append(first + 1 + offset)
            rows = [
                GroupMember(first + 1 + offset, weight, watch)
                for offset, (_action, weight, watch) in enumerate(actions)
            ]
            self._group(Op.INSERT, profile, first, rows, what)
        except P4Error:
            for member in created:
                self._member(Op.DELETE, profile, member, b"\0")
            raise
        return first

    def _reserve(self, profile: ProfileSchema, count: int) -> int:
        first = self._next.get(profile.index)
        if first is None:
            used = [*self._commands.member_read(profile.index), *self._commands.group_read(profile.index)]
            first = max([ONE_SHOT_BASE - 1, *used]) + 1
        if first + count >= 1 << 32:
            raise P4Error(Rpc.RESOURCE_EXHAUSTED, f"action profile {profile.name}: ids for action sets are used up")
        self._next[profile.index] = first + count
        return first

    def release(self, table: TableSchema, action: bytes) -> None:
        """Remove the hidden group and members behind an entry's former action, if it had any."""
        kind, number = struct.unpack_from("<BI", action)
        if kind != GROUP or number < ONE_SHOT_BASE or table.profile is None:
            return
        profile = self.profile(table.profile)
        members = self._commands.group_read(profile.index).get(number, [])
        self._group(Op.DELETE, profile, number, [], f"table {table.name}: action set")
        for member in members:
            self._member(Op.DELETE, profile, member.member, b"\0")

    def everything(self, profile: ProfileSchema) -> tuple[dict[int, list[GroupMember]], dict[int, ActionCall]]:
        """(groups, members) of a profile, the hidden ones too."""
        return self._commands.group_read(profile.index), self._commands.member_read(profile.index)


class OneShots:
    """The action sets behind hidden groups, of one read: each profile is read at most once."""

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        self.size = 0  # bytes of memory, about
        self._known: dict[int, tuple[dict[int, list[GroupMember]], dict[int, ActionCall]]] = {}

    def take(self, table: TableSchema) -> ProfileSchema:
        """Read the table's profile now, if that was not done before."""
        if table.profile is None:
            raise not_found(f"table {table.name} has no action profile")
        profile = self._profiles.profile(table.profile)
        if profile.id not in self._known:
            self._known[profile.id] = groups, members = self._profiles.everything(profile)
            self.size += _GROUP_BYTES * len(groups) + _MEMBER_BYTES * len(members)
        return profile

    def wire(self, table: TableSchema, group: int) -> bytes:
        """The TableAction for a hidden group, in wire form."""
        profile = self.take(table)
        groups, members = self._known[profile.id]
        out = p4r.ActionProfileActionSet()
        for member in groups.get(group, []):
            call = members[member.member]
            item = out.action_profile_actions.add(weight=0 if profile.weights_disallowed else member.weight)
            item.action.CopyFrom(profile.by_index[call.action].message(call.params))
            if member.watch_port is not None:
                item.watch_port = encode(member.watch_port)
        return delimited(_SET, out.SerializeToString())


def is_hidden(entry: RawEntry) -> bool:
    """Whether an entry's action is a one-shot set."""
    kind, number = struct.unpack_from("<BI", entry.action)
    return bool(kind == GROUP and number >= ONE_SHOT_BASE)


def member_weight(profile: ProfileSchema, weight: int, what: str) -> int:
    """A member's weight as the data plane wants it."""
    if profile.weights_disallowed:
        if weight:
            raise invalid(f"{what}: {profile.name} disallows weights, not {weight}")
        return 1
    if weight < 1:
        raise invalid(f"{what}: weight {weight} is not positive")
    return weight


def _client_id(number: int, what: str) -> int:
    if not 0 < number < ONE_SHOT_BASE:
        raise invalid(f"{what} id {number} is not within 1..{ONE_SHOT_BASE - 1}")
    return number
