"""The OpenAI files and fine-tuning API over aiohttp: one function a request, faults as `EndpointFault`.

The key lives in the headers of one session and nowhere else, and is cut out of every text that comes back. Redirects are
not followed. What may pass is tried again here, but for the creation of a job: whether a try that broke off has started
one has to be found out before the next.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from steelyard.models.chat_format import error_message, retry_after_s
from steelyard.models.endpoint import EndpointFault
from steelyard.models.http import key_of, proxy_for
from steelyard.models.spec import EndpointSpec

_TRIES = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_REQUEST_S, _UPLOAD_S = 60.0, 900.0
_PAGE = 100
_MOST_PAGES = 50
_LARGEST_ANSWER_BYTES = 32 * 1024 * 1024
_SPREAD = random.Random()


class TuningApi:
    """One host; used as an asynchronous context within one event loop."""

    def __init__(self, name: str, spec: EndpointSpec, *, where: str) -> None:
        """Read the key from the environment.

        Args:
            name: Name of the endpoint in the study.
            spec: Its section of study.yaml.
            where: Place of it, for messages.

        Raises:
            InputError: The address holds a secret, or the key is not set.
        """
        self.url = spec.base_url.rstrip("/")
        self.key_name = spec.api_key_env
        self._key = key_of(name, spec, where)
        self._proxy = proxy_for(spec.base_url)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._session = aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def upload(self, content: bytes, *, file_name: str) -> dict[str, Any]:
        """Hand in a training file. A second copy after a broken try costs nothing.

        Raises:
            EndpointFault: It was refused, or the host could not be reached; so do all the others here.
        """

        def form() -> aiohttp.FormData:
            fields = aiohttp.FormData()
            fields.add_field("purpose", "fine-tune")
            fields.add_field("file", io.BytesIO(content), filename=file_name, content_type="application/jsonl")
            return fields

        return await self._until_it_works("POST", "/files", form=form, timeout_s=_UPLOAD_S)

    async def file(self, file_id: str) -> dict[str, Any]:
        """What the host makes of a file."""
        return await self._until_it_works("GET", f"/files/{file_id}")

    async def create(self, body: Mapping[str, Any], *, key: str) -> dict[str, Any]:
        """Start a job, with one try.

        Args:
            body: The job.
            key: Idempotency key, for hosts that know such a thing.
        """
        return await self._once("POST", "/fine_tuning/jobs", json=body, headers={"Idempotency-Key": key})

    async def job(self, job_id: str) -> dict[str, Any]:
        """How a job is."""
        return await self._until_it_works("GET", f"/fine_tuning/jobs/{job_id}")

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """End a job early."""
        return await self._until_it_works("POST", f"/fine_tuning/jobs/{job_id}/cancel")

    async def jobs(self) -> AsyncIterator[dict[str, Any]]:
        """All jobs the key may see, newest first."""
        async for job in self._pages("/fine_tuning/jobs"):
            yield job

    async def events(self, job_id: str) -> AsyncIterator[dict[str, Any]]:
        """What happened to a job, newest first."""
        async for event in self._pages(f"/fine_tuning/jobs/{job_id}/events"):
            yield event

    def clean(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._key, f"[${self.key_name}]") if self._key else text

    # ---- private ------------------------------------------------------------------------------------------------

    async def _pages(self, path: str) -> AsyncIterator[dict[str, Any]]:
        after = ""
        for _ in range(_MOST_PAGES):
            page = await self._until_it_works("GET", f"{path}?limit={_PAGE}{after}")
            found = [one for one in page.get("data") or () if isinstance(one, dict)]
            for one in found:
                yield one
            if not page.get("has_more") or not found:
                return
            after = f"&after={found[-1].get('id', '')}"

    async def _until_it_works(
        self,
        method: str,
        path: str,
        *,
        form: Callable[[], aiohttp.FormData] | None = None,
        timeout_s: float = _REQUEST_S,
    ) -> dict[str, Any]:
        for number in range(_TRIES):
            try:
                return await self._once(method, path, form=form, timeout_s=timeout_s)
            except EndpointFault as fault:
                if not fault.retry or number + 1 == _TRIES:
                    raise
                await asyncio.sleep(wait_s(fault, number))
        raise AssertionError("unreachable: the last try either returns or raises")

    async def _once(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        form: Callable[[], aiohttp.FormData] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = _REQUEST_S,
    ) -> dict[str, Any]:
        assert self._session is not None
        url = self.url + path
        sent: dict[str, Any] = {"headers": dict(headers or {})}
        if json is not None:
            sent["data"] = orjson.dumps(json)
            sent["headers"]["Content-Type"] = "application/json"
        elif form is not None:
            sent["data"] = form()
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.request(
                method, url, timeout=timeout, allow_redirects=False, proxy=self._proxy, **sent
            ) as answer:
                content = await answer.content.read(_LARGEST_ANSWER_BYTES)
                while not answer.content.at_eof() and len(content) < _LARGEST_ANSWER_BYTES:
                    content += await answer.content.read(_LARGEST_ANSWER_BYTES - len(content))
                status, retry_after = answer.status, answer.headers.get("Retry-After")
        except TimeoutError:
            raise EndpointFault("timed_out", f"no full answer from {url} within {timeout_s:g} s") from None
        except aiohttp.InvalidURL:
            raise EndpointFault("unusable", f"{url!r} is not a usable address", hint="check base_url") from None
        except (aiohttp.ClientError, ConnectionError) as fault:
            reason = self.clean(str(fault)) or type(fault).__name__
            raise EndpointFault("dropped", f"the connection to {url} broke off: {reason}") from None
        if status in (200, 201, 202):
            return self._read(content, url)
        raise self._fault(status, content, url, retry_after)

    def _read(self, content: bytes, url: str) -> dict[str, Any]:
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            shown = self.clean(error_message(content))[:200] or "it is empty"
            raise EndpointFault("unreadable", f"the answer of {url} is not a JSON object: {shown}")
        return body

    def _fault(self, status: int, content: bytes, url: str, retry_after: str | None) -> EndpointFault:
        said = self.clean(error_message(content))[:500] or "no message"
        if status in (401, 403):
            if self.key_name is None:
                what, hint = "a key is needed", "name the variable that holds it in api_key_env"
            else:
                what = f"the key in ${self.key_name} was refused"
                hint = f"set ${self.key_name} to a key that may tune models"
            return EndpointFault("unusable", f"{url}: {what} ({status}): {said}", hint=hint)
        if status in (404, 405):
            hint = "check base_url, and that this host still offers tuning jobs in the OpenAI format"
            return EndpointFault("unusable", f"{url}: there is no such thing ({status}): {said}", hint=hint)
        if status == 429:
            return EndpointFault(
                "rate_limited", f"{url}: too many requests (429): {said}", retry_after_s=retry_after_s(retry_after)
            )
        if status >= 500 or status == 408:
            return EndpointFault(
                "server_error", f"{url}: server error ({status}): {said}", retry_after_s=retry_after_s(retry_after)
            )
        if 300 <= status < 400:
            return EndpointFault("unusable", f"{url} redirects ({status}), which is not followed")
        return EndpointFault("rejected", f"{said} ({status} from {url})")


def wait_s(fault: EndpointFault, number: int) -> float:
    """Seconds to wait after a failed try, the first of which has number 0."""
    if fault.retry_after_s is not None:
        return min(fault.retry_after_s, _LONGEST_WAIT_S)
    return _SPREAD.uniform(0.5, 1.0) * min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**number)
