"""The service's state as plain dictionaries: what the API and the command line show."""

from __future__ import annotations

from dataclasses import asdict
from math import isnan
from typing import Any

from control.plan import Group
from control.recommend import recommend
from control.service import Service
from control.telemetry import NOT_OFFERED
from control.threats import display
from control.tse import Kind, Side
from ml.offpolicy import Decision as Judged
from ml.offpolicy import precision
from ml.schema import Mode


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
        "uptime_s": round(service.clock.monotonic() - service.started_s, 3),
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
                "since_s": round(service.clock.monotonic() - threat.since_s, 3),
                "reasons": list(threat.reasons),
            }
            for threat in service.book.standing()
        ],
        "dead_ports": sorted(str(end) for end in service.book.suspects),
        "unjudged": _unjudged(service, now),
        "notice_errors": dict(service.notices.errors) if service.notices is not None else {},
        "recommendations": recommendations(service),
        "maintenance": maintenance(service, now),
        "models": models(service),
        "anomalies": anomalies(service, now),
        "control_share": control_share(service),
        "inband": service.inband.status() if service.inband is not None else None,
        "feeds": service.feeds.manager.status(now)["feeds"] if service.feeds is not None else [],
        "sources": [
            {
                "element": source.entry.element,
                "url": source.entry.url,
                "polls": source.polls,
                "failures": source.failures,
                "error": source.error,
            }
            for source in service.exporters
        ],
        "telemetry": {
            "received": service.inbox.received,
            "dropped": service.inbox.dropped,
            "malformed": sum(source.malformed for source in service.sources.values()),
            "reports": asdict(service.intake.counts),
            "ledger_dropped": service.ledger.dropped,
        },
        "history": history(service),
        "loads": service.loads.snapshot(),
    }


def recommendations(service: Service) -> list[dict[str, Any]]:
    """Flows that should leave their primary, the most important first."""
    now = service.clock.time()
    found = recommend(
        service.analyzer.forecasts(now),
        now,
        plan=service.plan,
        book=service.book,
        tse=service.tse,
        loads=service.loads,
        priority=service.outcomes.priority,
        outage_s=service.settings.outage_s,
    )
    return [asdict(item) | {"reasons": list(item.reasons)} for item in found]


def maintenance(service: Service, now_s: float) -> list[dict[str, Any]]:
    """Announced work that drains something, now or later; times in seconds since the epoch."""
    return [
        {
            "id": notice.id,
            "element": display(service.network, element),
            "state": "draining" if draining else "planned",
            "start_s": notice.start_s,
            "end_s": notice.end_s,
            "summary": notice.summary,
        }
        for notice, element, draining in service.analyzer.planned(now_s)
    ]


def models(service: Service) -> dict[str, Any]:
    """Which models judge, and whether what they see drifts away from what they learned."""
    found = service.analyzer.model_set
    return {"version": found.version, "profile": found.profile.name, "drift": service.analyzer.drift()}


def anomalies(service: Service, now_s: float) -> list[dict[str, Any]]:
    """What is unusual without being known as a failure; shown, never steered by."""
    return [
        {
            "element": item.element,
            "signal": item.signal,
            "oddity": round(float(item.oddity), 3),
            "time_s": item.time_s,
            "text": item.text,
        }
        for item in service.anomalies.anomalies(now_s)
    ]


def control_share(service: Service) -> dict[str, Any]:
    """How many recommended flips are withheld, and the precision that follows from those of known outcome."""
    share = service.outcomes.share
    lines = service.outcomes.labelled
    estimate = precision(
        Judged(line.time_s, line.element, Mode(line.mode), line.probability, line.kind == Kind.WITHHOLD, line.struck)
        for line in lines
    )
    return {
        "share": share.share,
        "up_to_priority": share.up_to_priority,
        "labelled": len(lines),
        "withheld": estimate.withheld,
        "precision": _known(estimate.value),
        "precision_low": _known(estimate.low),
        "precision_high": _known(estimate.high),
    }


def history(service: Service) -> dict[str, Any]:
    """What the writer of the history did."""
    writer = service.recorder.writer
    if writer is None:
        return {"folder": ""}
    return {"folder": str(writer.folder), "waiting": writer.waiting, **asdict(writer.counts)}


def _known(value: float) -> float | None:
    return None if isnan(value) else round(value, 4)


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
