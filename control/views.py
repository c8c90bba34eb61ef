"""The service's state as plain dictionaries: what the API and the command line show."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from control.plan import Group
from control.service import Service
from control.telemetry import NOT_OFFERED
from control.tse import Side


def health(service: Service) -> dict[str, Any]:
    """Whether every switch is restored; names those that are not and why."""
    waiting = {
        name: session.last_error or session.state.value
        for name, session in service.fleet.sessions.items()
        if not session.ready
    }
    return {"ready": service.fleet.ready, "waiting": waiting}


def status(service: Service) -> dict[str, Any]:
    """Everything at a glance."""
    now = service.clock.time()
    flipped = service.tse.flipped()
    return {
        "topology": service.topology.name,
        "strategy": service.strategy.value,
        "role": "backup" if service.fleet.backup else "primary",
        **health(service),
        "uptime_s": round(now - service.started_s, 3),
        "switches": [
            {
                "name": name,
                "address": session.address,
                "state": session.state.value,
                "transport": session.transport,
                "entries": len(session.installed),
                "restores": session.restores,
                "telemetry": service.sources[name].state,
                "heartbeats": session.heartbeats,
                "error": session.last_error,
            }
            for name, session in service.fleet.sessions.items()
        ],
        "groups": len(service.plan.groups),
        "shadowed": sum(1 for _ in service.plan.shadowed()),
        "flipped": [str(key) for key in flipped],
        "threats": [
            {
                "element": threat.element,
                "cause": threat.cause.value,
                "mode": threat.mode,
                "probability": round(threat.probability, 4),
                "active": threat.active,
                "since_s": round(now - threat.since_s, 3),
                "reasons": list(threat.reasons),
            }
            for threat in service.book.standing()
        ],
        "dead_ports": sorted(str(end) for end in service.book.suspects),
        "unjudged": _unjudged(service, now),
        "notice_errors": dict(service.notices.errors) if service.notices is not None else {},
        "telemetry": {
            "received": service.inbox.received,
            "dropped": service.inbox.dropped,
            "ledger_dropped": service.ledger.dropped,
        },
        "loads": service.loads.snapshot(),
    }


def _unjudged(service: Service, now_s: float) -> dict[str, str]:
    """What the analyzer cannot judge and why; a device without gNMI tells nothing about itself."""
    silent = {name for name, source in service.sources.items() if source.state == NOT_OFFERED}
    return {
        element: "the switch offers no gNMI: nothing is known of its processor and memory" if element in silent else why
        for element, why in service.analyzer.unjudged(now_s).items()
    }


def forecasts(service: Service) -> list[dict[str, Any]]:
    """All probabilities, most probable first."""
    found = service.analyzer.forecasts(service.clock.time())
    return [
        {
            "element": item.element,
            "mode": item.mode.value,
            "probability": round(item.probability, 6),
            "horizon_s": item.horizon_s,
            "time_s": item.time_s,
            "reasons": [{"signal": reason.signal, "text": reason.text} for reason in item.reasons],
        }
        for item in found
    ]


def ledger(service: Service, **query: Any) -> list[dict[str, Any]]:
    """Ledger lines, newest last."""
    return [asdict(record) for record in service.ledger.lines(**query)]


def paths(service: Service) -> list[dict[str, Any]]:
    """Every steering group with both of its paths."""
    return [describe(service, group) for group in sorted(service.plan.groups.values(), key=lambda g: g.key)]


def describe(service: Service, group: Group) -> dict[str, Any]:
    """One steering group."""
    shadow = group.shadow
    side = service.tse.side(group.key)
    primary = str(service.spm.primary_path(service.plan, group)) if group.reachable and not group.local else ""
    return {
        "switch": group.key.switch,
        "destination": group.key.destination,
        "group_id": group.id,
        "side": side.value,
        "primary": primary if not group.local else "local",
        "shadow": str(shadow.path) if shadow is not None else "",
        "label": shadow.label if shadow is not None else 0,
        "disjoint": shadow.disjoint.value if shadow is not None else "",
        "mark": "" if shadow is None else "active" if side is Side.SHADOW else "standby",
        "rate_bps": round(service.loads.group_rate(group.key), 1),
    }
