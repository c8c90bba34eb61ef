"""HTTP API, meant for loopback: what the dashboard, the scoreboard and the command line speak.

GET  /healthz /readyz /status /recommendations /ledger /forecasts /paths /metrics
POST /strategy /reset /flip /revert
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict

from control import views
from control.errors import ControlError, InputError, SwitchUnavailable
from control.fleet import Outcome
from control.metrics import METRICS_TYPE, exposition
from control.recommend import Recommendation
from control.service import Service
from control.settings import Strategy
from control.tse import Decision, Kind, Side


class Server(uvicorn.Server):
    """Serves an application; leaves signals to the process, in which one handler ends everything."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StrategyBody(_Body):
    """``{"strategy": "predictive"}``"""

    strategy: Strategy


class ResetBody(_Body):
    """``history``: "keep" what the analyzer learned, or "clear" it. ``strategy``: change it as well."""

    history: str = "keep"
    strategy: Strategy | None = None


class MoveBody(_Body):
    """Which groups: by switch, destination host, threatened element; at least one of them."""

    switch: str | None = None
    destination: str | None = None
    element: str | None = None
    force: bool = False
    dry_run: bool = False


def create(service: Service) -> FastAPI:
    """The application around a running service."""
    app = FastAPI(title="Shadowplane", version="0.1")

    @app.exception_handler(ControlError)
    async def _failed(_request: Request, error: Exception) -> JSONResponse:
        code = 422 if isinstance(error, InputError) else 503 if isinstance(error, SwitchUnavailable) else 409
        return JSONResponse({"error": str(error)}, status_code=code)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        found = views.health(service)
        response.status_code = 200 if found["ready"] else 503
        return found

    @app.get("/status")
    async def status() -> dict[str, Any]:
        return views.status(service)

    @app.get("/recommendations", response_model=list[Recommendation])
    async def recommendations() -> list[dict[str, Any]]:
        return views.recommendations(service)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(exposition(service), media_type=METRICS_TYPE)

    @app.get("/ledger")
    async def ledger(
        since_id: int = 0,
        since_s: float = 0.0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
        kind: Kind | None = None,
    ) -> list[dict[str, Any]]:
        await service.settled()
        return views.ledger(service, since_id=since_id, since_s=since_s, limit=limit, kind=kind.value if kind else None)

    @app.get("/forecasts")
    async def forecasts() -> list[dict[str, Any]]:
        return views.forecasts(service)

    @app.get("/paths")
    async def paths() -> list[dict[str, Any]]:
        return views.paths(service)

    @app.post("/strategy")
    async def strategy(body: StrategyBody) -> dict[str, Any]:
        return _outcome(await service.set_strategy(body.strategy), service)

    @app.post("/reset")
    async def reset(body: ResetBody | None = None) -> dict[str, Any]:
        body = body or ResetBody()
        if body.history not in ("keep", "clear"):
            raise InputError(f"history must be 'keep' or 'clear', not {body.history!r}")
        outcome = await service.reset(clear_history=body.history == "clear", strategy=body.strategy)
        return _outcome(outcome, service)

    @app.post("/flip")
    async def flip(body: MoveBody) -> dict[str, Any]:
        return await _move(service, body, Side.SHADOW)

    @app.post("/revert")
    async def revert(body: MoveBody) -> dict[str, Any]:
        return await _move(service, body, Side.PRIMARY)

    return app


async def _move(service: Service, body: MoveBody, side: Side) -> dict[str, Any]:
    if body.switch is None and body.destination is None and body.element is None:
        raise InputError("name a switch, a destination host or an element")
    groups = service.select(switch=body.switch, destination=body.destination, element=body.element)
    decisions = await service.move(side, groups, force=body.force, dry_run=body.dry_run)
    outcomes = [_move_outcome(service, decision, side, body.dry_run) for decision in decisions]
    return {
        "dry_run": body.dry_run,
        "moved": sum(outcome in ("done", "planned") for outcome in outcomes),
        "decisions": [
            _decision(decision) | {"outcome": outcome} for decision, outcome in zip(decisions, outcomes, strict=True)
        ],
    }


def _move_outcome(service: Service, decision: Decision, side: Side, dry_run: bool) -> str:
    """A write that failed leaves its group where it was; the ledger says why."""
    if decision.kind is Kind.REFUSE:
        return "refused"
    if dry_run:
        return "planned"
    return "done" if service.tse.side(decision.group) is side else "failed"


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "kind": decision.kind.value,
        "switch": decision.group.switch,
        "destination": decision.group.destination,
        "explanation": decision.explanation,
    }


def _outcome(outcome: Outcome, service: Service) -> dict[str, Any]:
    return {"strategy": service.strategy.value, "updates": outcome.updates, "failed": outcome.failed}
