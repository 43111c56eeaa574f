"""SQL over datasets."""

from __future__ import annotations

import json
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from aiaas_hub.api.identity import Caller, Scope
from aiaas_hub.api.services import Api
from aiaas_hub.api.waiting import parquet_answer, while_waited_for
from aiaas_hub.domain.querying import Cancelled
from aiaas_hub.schemas.queries import CUT_HEADER, DATASETS_HEADER, ROWS_HEADER, QueryRequest

router = APIRouter(tags=["datasets"])


@router.post("/queries", response_class=StreamingResponse)
async def query(
    body: QueryRequest, request: Request, caller: Caller, api: Api
) -> StreamingResponse:
    """The result of one SELECT over datasets as a Parquet file, with what was read and whether
    the result is whole in the headers `x-aiaas-rows`, `x-aiaas-cut` and `x-aiaas-datasets`."""
    caller.require(Scope.READ, caller.user)

    def answer(cancelled: Cancelled) -> StreamingResponse:
        def write(target: Path) -> dict[str, str]:
            outcome = api.querying.query(
                body.sql, body.engine, caller, target, body.limit, cancelled
            )
            read = [f"{one.owner}/{one.name}@{one.version}" for one in outcome.datasets]
            headers = {ROWS_HEADER: str(outcome.rows), DATASETS_HEADER: json.dumps(read)}
            return {**headers, CUT_HEADER: outcome.cut} if outcome.cut else headers

        return parquet_answer(write)

    return await while_waited_for(request, answer)
