"""Actions, tables, conditions and action profiles of BMv2 JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import ir
from engine.api import MatchKind
from engine.ir_calculation import load_calculation
from engine.ir_expr import Json, Names, items, malformed, need, number, refuse, source_of

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = {
    "exact": MatchKind.EXACT,
    "valid": MatchKind.EXACT,
    "lpm": MatchKind.LPM,
    "ternary": MatchKind.TERNARY,
    "range": MatchKind.RANGE,
    "optional": MatchKind.OPTIONAL,
}


def load_actions(data: Json, names: Names) -> tuple[tuple[ir.Action, ...], dict[int, int]]:
    """(actions, JSON id to index)."""
    actions: list[ir.Action] = []
    ids: dict[int, int] = {}
    negative = _negative(data)
    for item in items(data, "actions", "program"):
        name = need(item, "name", str, "action")
        source = source_of(item)
        params = []
        for param in items(item, "runtime_data", name):
            width = need(param, "bitwidth", int, name)
            if not 1 <= width <= 4096:
                refuse(f"the parameter {param.get('name')} of {width} bits", source)
            params.append((need(param, "name", str, name), width))
        names.signed = frozenset(i for action, i in negative if action == item.get("id"))
        primitives = tuple(names.primitive(p, tuple(params), source) for p in items(item, "primitives", name))
        names.signed = frozenset()
        if source is None and primitives:
            source = primitives[0].source
        ids[need(item, "id", int, name)] = len(actions)
        actions.append(ir.Action(name, tuple(params), primitives, source))
    return tuple(actions), ids


def _negative(data: Json) -> set[tuple[object, int]]:
    """(action id, parameter) wherever an entry or a default action of the program itself has a negative argument.

    The JSON does not say which parameters are signed. BMv2 takes what controllers write as unsigned, so that a shift
    or comparison of a signed parameter is only right for entries of the program; here it then is for all.
    """
    found: set[tuple[object, int]] = set()
    for pipeline in items(data, "pipelines", "program"):
        for table in items(pipeline, "tables", "pipeline"):
            calls = [entry.get("action_entry") for entry in items(table, "entries", "table")]
            for call in (*calls, table.get("default_entry")):
                values = call.get("action_data", []) if isinstance(call, dict) else []
                if isinstance(call, dict) and isinstance(values, list):
                    texts = ((i, text) for i, text in enumerate(values) if isinstance(text, str))
                    found |= {(call.get("action_id"), i) for i, text in texts if text.startswith("-")}
    return found


class _Loader:
    def __init__(
        self, names: Names, actions: tuple[ir.Action, ...], ids: dict[int, int], meters: Sequence[ir.Array]
    ) -> None:
        self.names = names
        self.actions = actions
        self.ids = ids
        self.meters = meters
        self.tables: list[ir.Table] = []
        self.profiles: list[ir.Profile] = []
        self.profile: dict[str, int] = {}

    def action(self, value: object, where: str) -> int:
        if not isinstance(value, int) or value not in self.ids:
            malformed(f"{where}: unknown action id {value!r}")
        return self.ids[value]

    def values(self, data: object, action: int, where: str) -> tuple[int, ...]:
        params = self.actions[action].params
        if not isinstance(data, list) or len(data) != len(params):
            malformed(f"{where}: action data {data!r} for {len(params)} parameters")
        values = tuple(number(v, where) for v in data)
        for value, (name, width) in zip(values, params, strict=True):
            if not -(1 << width) < value < 1 << width:
                malformed(f"{where}: {name} = {value} does not fit {width} bits")
        return tuple(v & ((1 << w) - 1) for v, (_n, w) in zip(values, params, strict=True))

    def add_profiles(self, pipeline: Json) -> None:
        for item in items(pipeline, "action_profiles", "pipeline"):
            name = need(item, "name", str, "action profile")
            selector = item.get("selector")
            chosen = None if selector is None else load_calculation(selector, self.names, name, source_of(item))
            self.profile[name] = len(self.profiles)
            self.profiles.append(ir.Profile(name, need(item, "max_size", int, name), chosen))

    def pipeline(self, pipeline: Json) -> ir.Pipeline:
        name = need(pipeline, "name", str, "pipeline")
        nodes: dict[str, ir.Node] = {}
        for item in items(pipeline, "tables", name):
            table = self.table(item)
            nodes[table.name] = table
            self.tables.append(table)
        for item in items(pipeline, "conditionals", name):
            label = need(item, "name", str, name)
            source = source_of(item)
            expression = self.names.expression(item.get("expression"), (), source)
            nodes[label] = ir.Condition(label, expression, item.get("true_next"), item.get("false_next"), source)
        for item in items(pipeline, "action_calls", name):
            label = need(item, "name", str, name)
            action = self.action(item.get("action_id"), label)
            nodes[label] = ir.ActionCall(label, action, item.get("next_node"), source_of(item))
        for node in nodes.values():
            for following in successors(node):
                if following is not None and following not in nodes:
                    malformed(f"{node.name}: unknown next node {following!r}")
        first = pipeline.get("init_table")
        if first is not None and first not in nodes:
            malformed(f"{name}: unknown first node {first!r}")
        return ir.Pipeline(name, first, nodes)

    def key(self, item: Json, table: str, source: ir.Source | None) -> ir.Key:
        match = need(item, "match_type", str, table)
        if match not in KINDS:
            refuse(f"the match kind {match}", source)
        target = item.get("target")
        if match == "valid":
            header = target if isinstance(target, str) else self.names.pair(target, "key")[0]
            ref = ir.FieldRef(self.names.lookup(self.names.header, header, "header", source), ir.VALID)
        else:
            ref = self.names.field(target, source)
        width = 1
        if ref.field != ir.VALID:
            declared = self.names.types[self.names.headers[ref.header].type].fields[ref.field]
            width = declared.width
            if declared.varbit:
                refuse("a match on a varbit field", source)
        mask = None if item.get("mask") is None else number(item["mask"], table)
        if mask is not None and KINDS[match] in (MatchKind.LPM, MatchKind.RANGE):
            refuse(f"a masked {match} key", source)
        name = item.get("name") or ".".join(map(str, target if isinstance(target, list) else [target]))
        return ir.Key(str(name), KINDS[match], ref, width, mask)

    def table(self, item: Json) -> ir.Table:
        name = need(item, "name", str, "table")
        source = source_of(item)
        keys = tuple(self.key(k, name, source) for k in items(item, "key", name))
        if sum((k.width + 7) // 8 for k in keys) > 256:
            refuse(f"a key of more than 256 bytes in {name}", source)
        kinds = [k.kind for k in keys]
        ternary = any(k in (MatchKind.TERNARY, MatchKind.RANGE, MatchKind.OPTIONAL) for k in kinds)
        if item.get("match_type") in ("ternary", "range") and keys:
            ternary = True
        if kinds.count(MatchKind.LPM) > 1 and not ternary:
            refuse(f"two LPM keys in {name}", source)
        kind = need(item, "type", str, name)
        if kind not in ("simple", "indirect", "indirect_ws"):
            refuse(f"a table of type {kind}", source)
        actions = tuple(self.action(i, name) for i in need(item, "action_ids", list, name))
        twice = next((a for place, a in enumerate(actions) if a in actions[:place]), None)
        if twice is not None:
            malformed(f"{name}: the action {self.actions[twice].name} is listed twice")
        following = need(item, "next_tables", dict, name)
        fallback = item.get("base_default_next")
        by_hit = "__HIT__" in following or "__MISS__" in following
        default = None
        default_const = False
        chosen = item.get("default_entry")
        if isinstance(chosen, dict):
            action = self.action(chosen.get("action_id"), name)
            default = (action, self.values(chosen.get("action_data", []), action, name))
            default_const = bool(chosen.get("action_entry_const")) or bool(chosen.get("action_const"))
        meter = item.get("direct_meters")
        entries = tuple(self.entries(item, name, keys, ternary))
        for chosen_action in (*(entry.action for entry in entries), *(default[:1] if default else ())):
            if chosen_action not in actions:
                malformed(
                    f"{name}: an entry with the action {self.actions[chosen_action].name}, which it does not have"
                )
        profile = None
        if kind != "simple":
            profile = self.names.lookup(self.profile, item.get("action_profile"), "action profile")
        return ir.Table(
            name=name,
            keys=keys,
            lpm=MatchKind.LPM in kinds and not ternary,
            ternary=ternary,
            actions=actions,
            next_by_action={a: following.get(self.actions[a].name, fallback) for a in actions},
            next_hit=following.get("__HIT__", fallback),
            next_miss=following.get("__MISS__", fallback),
            by_hit=by_hit,
            next_default=fallback,
            size=max(need(item, "max_size", int, name), len(entries), 1),
            profile=profile,
            direct_counter=bool(item.get("with_counters")),
            direct_meter=None if meter is None else self.names.lookup(self.names.arrays["meter"], meter, "meter"),
            idle_timeout=bool(item.get("support_timeout")),
            default=default,
            default_const=default_const,
            entries=entries,
            immutable="entries" in item,
            source=source,
        )

    def entries(self, item: Json, name: str, keys: tuple[ir.Key, ...], ternary: bool) -> list[ir.ConstEntry]:
        raw = items(item, "entries", name)
        for entry in raw:
            if not isinstance(entry.get("priority", 0), int) or not 0 <= entry.get("priority", 0) < 1 << 30:
                malformed(f"{name}: priority {entry.get('priority')!r}")
        top = max((e.get("priority", 0) for e in raw), default=0) + 1
        found: list[ir.ConstEntry] = []
        seen = set()
        for entry in raw:
            parts = items(entry, "match_key", name)
            if len(parts) != len(keys):
                malformed(f"{name}: an entry with {len(parts)} key fields instead of {len(keys)}")
            key = tuple(self.entry_key(part, field, name) for part, field in zip(parts, keys, strict=True))
            call = need(entry, "action_entry", dict, name)
            action = self.action(call.get("action_id"), name)
            params = self.values(call.get("action_data", []), action, name)
            # In the JSON the smallest number wins
            priority = top - entry.get("priority", 0) if ternary else 0
            if (key, priority) in seen:
                malformed(f"{name}: two entries with the same key {key}")
            seen.add((key, priority))
            found.append(ir.ConstEntry(key, action, params, priority))
        return found

    def entry_key(self, part: Json, key: ir.Key, name: str) -> tuple[int, int]:
        everything = (1 << key.width) - 1
        kind = key.kind

        def value(label: str) -> int:
            found = number(part.get(label), name)
            if not -everything <= found <= everything:
                malformed(f"{name}: {label} {part.get(label)} does not fit {key.name} of {key.width} bits")
            return found & everything

        if kind is MatchKind.EXACT:
            raw = part.get("key")
            return (int(raw) if isinstance(raw, bool) else value("key")), everything
        if kind is MatchKind.LPM:
            length = need(part, "prefix_length", int, name)
            if not 0 <= length <= key.width:
                malformed(f"{name}: prefix length {length} of {key.name}, which has {key.width} bits")
            return value("key"), length
        if kind is MatchKind.RANGE:
            low, high = value("start"), value("end")
            if low > high:
                malformed(f"{name}: the empty range {low}..{high} of {key.name}")
            return low, high
        return value("key"), value("mask")


def successors(node: ir.Node) -> list[str | None]:
    """Names of the nodes that may follow."""
    if isinstance(node, ir.Table):
        following = [node.next_hit, node.next_miss, node.next_default] if node.by_hit else [node.next_default]
        return [*following, *node.next_by_action.values()]
    if isinstance(node, ir.Condition):
        return [node.true_next, node.false_next]
    return [node.next]


def load_pipelines(
    data: Json, names: Names, actions: tuple[ir.Action, ...], ids: dict[int, int], meters: Sequence[ir.Array]
) -> tuple[ir.Pipeline, ir.Pipeline, tuple[ir.Table, ...], tuple[ir.Profile, ...]]:
    """(ingress, egress, all tables, action profiles)."""
    loader = _Loader(names, actions, ids, meters)
    pipelines = items(data, "pipelines", "program")
    if [p.get("name") for p in pipelines] != ["ingress", "egress"]:
        refuse(f"the pipelines {[p.get('name') for p in pipelines]} instead of ingress and egress", None)
    for item in pipelines:
        loader.add_profiles(item)
    ingress, egress = (loader.pipeline(item) for item in pipelines)
    return ingress, egress, tuple(loader.tables), tuple(loader.profiles)
