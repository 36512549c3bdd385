"""Label Studio's machine-learning backend: /setup, /health, /predict, /webhook below /label-studio.

Images come as addresses that only Label Studio can open, or as its local files; `data` may also carry an image itself
(data:image/png;base64,…) or the id of an inspection of this service (blemish:ID). Addresses are opened only below
`label_studio` in line.toml, so that nobody has this service open what it should not.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from fastapi import APIRouter, Body
from starlette.concurrency import run_in_threadpool

from blemish.errors import UsageError
from blemish.exports.label_studio import prediction_of
from blemish.serve import history
from blemish.serve.http.callers import MayInspect, ServiceOf
from blemish.serve.http.errors import Refused
from blemish.serve.intake import Upload, Wanted
from blemish.serve.service import Service

__all__ = ["router"]

router = APIRouter(prefix="/label-studio", tags=["Label Studio"])

LONGEST_S = 60.0  # Label Studio itself gives up after 100 s
MOST_TASKS = 32


@router.get("/health", summary="Whether the backend is there")
def health(service: ServiceOf) -> dict[str, str]:
    return {"status": "DOWN" if service.problems() else "UP", "model_class": "Blemish"}


@router.post("/setup", summary="What Label Studio asks first")
def setup(service: ServiceOf, caller: MayInspect) -> dict[str, str]:
    del caller
    return {"model_version": _version(service)}


@router.post("/webhook", summary="Events of Label Studio; nothing is learned from them")
def webhook(service: ServiceOf, caller: MayInspect) -> dict[str, str]:
    del service, caller
    return {"status": "ignored"}


@router.post("/predict", summary="Regions and verdicts of tasks")
async def predict(service: ServiceOf, caller: MayInspect, asked: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    """An image that cannot be opened is a prediction without a result, whose `error` says why: the others are not lost."""
    del caller
    tasks = asked.get("tasks")
    if not isinstance(tasks, list) or len(tasks) > MOST_TASKS:
        raise Refused(422, "invalid", f"tasks is a list of at most {MOST_TASKS}")
    results = await asyncio.gather(*(_predict(service, task) for task in tasks))
    return {"results": results, "model_version": _version(service)}


async def _predict(service: Service, task: Any) -> dict[str, Any]:
    try:
        record = await _record(service, task)
    except (UsageError, httpx.HTTPError, TimeoutError) as error:
        return {"result": [], "score": 0.0, "error": str(error) or type(error).__name__}
    if record["verdict"] is None:
        return {"result": [], "score": 0.0, "error": record["error"]}
    return {**prediction_of(record), "model_version": _version(service)}


async def _record(service: Service, task: Any) -> dict[str, Any]:
    data = task.get("data") if isinstance(task, dict) else None
    image = next((value for value in data.values() if isinstance(value, str)), "") if isinstance(data, dict) else ""
    if image.startswith("blemish:"):
        row = await run_in_threadpool(history.get, service.db, image.removeprefix("blemish:").replace("\0", ""))
        if row is None or row.record is None:
            raise UsageError("there is no such inspection")
        return dict(json.loads(row.record))
    content, name = await _open(service, image)
    pending = await run_in_threadpool(service.intake.take, [Upload(name, content)], Wanted(source="label-studio"))
    return await asyncio.wait_for(asyncio.wrap_future(pending[0].recorded), LONGEST_S)


async def _open(service: Service, image: str) -> tuple[bytes, str]:
    """The bytes of a task's image, and its name."""
    most = int(service.line.serve.upload_mb * 1e6)
    if image.startswith("data:"):
        _, _, encoded = image.partition("base64,")
        try:
            return base64.b64decode(encoded, validate=True), "image"
        except (binascii.Error, ValueError) as error:
            raise UsageError("the image in the task is not base64") from error
    config = service.line.label_studio
    if config is None:
        raise UsageError(
            "the task names an address; [label_studio] in line.toml says below which one images are opened"
        )
    base = config.url.rstrip("/")
    address = f"{base}{image}" if image.startswith("/") else image
    if "\\" in address or ".." in urlsplit(address).path or not address.startswith(f"{base}/"):
        raise UsageError(f"the image does not lie below {base}")
    headers = {} if config.token is None else {"Authorization": f"Token {config.token}"}
    async with (
        httpx.AsyncClient(timeout=20, follow_redirects=False) as http,
        http.stream("GET", address, headers=headers) as answer,
    ):
        answer.raise_for_status()
        held = bytearray()
        async for chunk in answer.aiter_bytes():
            held += chunk
            if len(held) > most:
                raise UsageError(f"the image is larger than {most / 1e6:g} MB")
    return bytes(held), urlsplit(address).path.rpartition("/")[2] or "image"


def _version(service: Service) -> str:
    model = service.pool.facts.get("model") or {}
    return f"{model.get('backbone', '')} {model.get('method', '')} {model.get('fingerprint', '')}".strip() or "unknown"
