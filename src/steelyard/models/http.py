"""Anything that speaks the OpenAI format, over aiohttp directly: chats, embeddings, and reranking as others have it.

One try is one POST below the `base_url`. What can go wrong is turned into data here: an `EndpointFault` with a kind the
engine can act on, or a `Response` with a status. The key lives in the request headers of one session and nowhere else;
it is cut out of every text that comes back, because some servers quote it.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson

from steelyard.errors import InputError, Problem
from steelyard.figures import Provenance
from steelyard.models.calls import AttemptStatus, ChatRequest
from steelyard.models.chat_format import error_message, says_schema_refused, says_too_long
from steelyard.models.endpoint import EndpointFault, Price, Response
from steelyard.models.http_faults import status_fault
from steelyard.models.local_server import lora_field
from steelyard.models.operation_format import PATHS, fields_of, read_answer
from steelyard.models.spec import EndpointSpec

LARGEST_BODY_BYTES = 32 * 1024 * 1024
"""A larger answer is not read to its end: no answer is that long, and memory is not the server's to fill."""
_SENT_WHOLE_BYTES = 512 * 1024


class HttpEndpoint:
    """One model behind an OpenAI-compatible address; made by `hosted` or `local`, used within one event loop."""

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        model: str,
        identity: str,
        price: Price,
        context_tokens: int | None = None,
        key: str | None = None,
        key_name: str | None = None,
        native_schema: bool = True,
        extra_body: Mapping[str, Any] | None = None,
        adapter_ids: Mapping[str, int] | None = None,
        concurrency: int = 16,
        largest_body_bytes: int = LARGEST_BODY_BYTES,
    ) -> None:
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._model_on_wire = model
        self._identity = identity
        self._price = price
        self._context_tokens = context_tokens
        self._key = key
        self._key_name = key_name
        self._native_schema = native_schema
        self._extra_body = dict(extra_body or {})
        self._adapter_ids = adapter_ids
        self._concurrency = concurrency
        self._largest_body_bytes = largest_body_bytes
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._proxy = proxy_for(base_url)
        self._session: aiohttp.ClientSession | None = None
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._was_reached = False
        self._base64_vectors = True

    @property
    def name(self) -> str:
        """Name in the study."""
        return self._name

    @property
    def model(self) -> str:
        """Identity of the model: name, address and fixed request fields, or what the local server was started with."""
        return self._identity

    @property
    def price(self) -> Price:
        """What calls cost."""
        return self._price

    @property
    def context_tokens(self) -> int | None:
        """Longest prompt plus answer in tokens; `None` when unknown."""
        return self._context_tokens

    async def send(self, request: ChatRequest, *, timeout_s: float) -> Response:
        """Send once and read the whole answer.

        Args:
            request: What to ask.
            timeout_s: Seconds until the answer has to be complete, connecting included.

        Raises:
            EndpointFault: The try failed; see its `kind`.
        """
        url = self._base_url + PATHS[request.operation]
        status, content, retry_after = await self._post(url, self._body(request), timeout_s)
        if status in (400, 422) and request.operation == "embed" and self._base64_vectors and b"encoding" in content:
            # Turned away for the form of the numbers alone: asked once more for a list, and so from now on.
            self._base64_vectors = False
            status, content, retry_after = await self._post(url, self._body(request), timeout_s)
        if status == 200:
            return read_answer(request, content, url=url, clean=self._clean)
        return self._refusal(request, status, content, retry_after, url)

    async def close(self) -> None:
        """Give up connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # ---- what is sent -------------------------------------------------------------------------------------------

    async def _post(self, url: str, fields: Mapping[str, Any], timeout_s: float) -> tuple[int, bytes, str | None]:
        """Status, body and Retry-After of the answer."""
        packed = orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
        # As a stream it is sent in pieces; aiohttp warns of a large body that is not.
        body = packed if len(packed) < _SENT_WHOLE_BYTES else io.BytesIO(packed)
        timeout = self._timeouts.get(timeout_s)
        if timeout is None:
            timeout = self._timeouts[timeout_s] = aiohttp.ClientTimeout(total=timeout_s)
        session = self._session or self._connect()
        try:
            # Redirects are not followed: they would carry prompts, and perhaps the key, to an address nobody chose.
            async with session.post(
                url, data=body, timeout=timeout, allow_redirects=False, proxy=self._proxy
            ) as answer:
                self._was_reached = True
                content = await self._read(answer, url)
                return answer.status, content, answer.headers.get("Retry-After")
        except TimeoutError:
            raise EndpointFault("timed_out", f"no full answer from {url} within {timeout_s:g} s") from None
        except aiohttp.ClientConnectorError as fault:
            # The first contact decides: nobody there at all is a wrong address; gone later is an outage.
            reason = self._clean(str(fault.os_error) or type(fault).__name__)
            if self._was_reached:
                raise EndpointFault("dropped", f"cannot connect to {url} any more: {reason}") from None
            raise EndpointFault(
                "unusable", f"nobody answers at {url}: {reason}", hint="check base_url and that the server runs"
            ) from None
        except aiohttp.InvalidURL:
            raise EndpointFault("unusable", f"{url!r} is not a usable address", hint="check base_url") from None
        except aiohttp.ClientPayloadError:
            raise EndpointFault("dropped", f"the answer of {url} broke off before its end") from None
        except (aiohttp.ClientError, ConnectionError) as fault:
            reason = self._clean(str(fault)) or type(fault).__name__
            raise EndpointFault("dropped", f"the connection to {url} broke off: {reason}") from None

    def _connect(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency, keepalive_timeout=30, ttl_dns_cache=300),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self._session

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        fields = fields_of(request, native_schema=self._native_schema, base64_vectors=self._base64_vectors)
        body = {"model": self._model_on_wire, **fields}
        body.update(self._extra_body)
        body.update(request.extra)
        if self._adapter_ids is not None:
            if request.adapter is not None and request.adapter not in self._adapter_ids:
                # llama.cpp would ignore the unknown id and answer with the bare base model.
                raise EndpointFault("unusable", f"adapter {request.adapter} is not loaded by endpoint {self._name!r}")
            chosen = None if request.adapter is None else self._adapter_ids[request.adapter]
            body["lora"] = lora_field(self._adapter_ids.values(), chosen)
        elif request.adapter is not None:
            raise EndpointFault(
                "unusable", f"endpoint {self._name!r} serves no adapters; {request.adapter} was asked for"
            )
        return body

    # ---- what comes back ----------------------------------------------------------------------------------------

    async def _read(self, answer: aiohttp.ClientResponse, url: str) -> bytes:
        announced = answer.content_length
        if announced is not None and announced <= self._largest_body_bytes and "Content-Encoding" not in answer.headers:
            return await answer.read()
        pieces = []
        size = 0
        async for piece in answer.content.iter_any():
            size += len(piece)
            if size > self._largest_body_bytes:
                answer.close()
                raise EndpointFault(
                    "unreadable", f"the answer of {url} is larger than {self._largest_body_bytes // 2**20} MB"
                )
            pieces.append(piece)
        return b"".join(pieces)

    def _refusal(
        self, request: ChatRequest, status: int, content: bytes, retry_after: str | None, url: str
    ) -> Response:
        said = self._shown(content)
        has_schema = request.response_schema is not None and self._native_schema
        is_about_length = status in (400, 413, 422) or (status == 500 and request.operation != "chat")  # llama.cpp
        if is_about_length and says_too_long(content):
            return Response(status=AttemptStatus.TOO_LONG, error=said)
        if has_schema and status in (400, 422) and says_schema_refused(content):
            # Known to be none: the tokens of a case stay known when its next call is answered.
            return Response(
                status=AttemptStatus.SCHEMA_REFUSED, error=said, prompt_tokens=0, cached_tokens=0, completion_tokens=0
            )
        raise status_fault(
            status,
            said,
            url=url,
            model=self._model_on_wire,
            operation=request.operation,
            key_name=self._key_name,
            retry_after=retry_after,
        )

    def _shown(self, content: bytes) -> str:
        # Cleaned before it is cut, so that no half of a key stays at the end.
        return self._clean(error_message(content))[:300] or "no message"

    def _clean(self, text: str) -> str:
        return text.replace(self._key, f"[${self._key_name}]") if self._key else text


# ---- making one -------------------------------------------------------------------------------------------------


def hosted(name: str, spec: EndpointSpec, *, where: str | None = None) -> HttpEndpoint:
    """The endpoint that study.yaml describes; the key is read from the environment now.

    Args:
        name: Name in the study.
        spec: Its section of study.yaml.
        where: `file:line` of that section, for messages.

    Raises:
        InputError: The address holds a password or a query, or the variable that should hold the key is not set or
            holds what no header can carry.
    """
    key = key_of(name, spec, where)
    # Address and fixed fields belong to the identity: after a switch from a stand-in to the real service, or to
    # another setting, no answer of the one may pass for an answer of the other.
    identity = f"{spec.model} at {spec.base_url.rstrip('/')}"
    if spec.extra_body:
        packed = orjson.dumps(spec.extra_body, option=orjson.OPT_SORT_KEYS)
        identity += f" with {hashlib.blake2b(packed, digest_size=4).hexdigest()}"
    return HttpEndpoint(
        name=name,
        base_url=spec.base_url,
        model=spec.model,
        identity=identity,
        price=price_of(spec),
        context_tokens=spec.context_tokens,
        key=key,
        key_name=spec.api_key_env,
        native_schema=spec.native_schema,
        extra_body=spec.extra_body,
        concurrency=spec.concurrency,
    )


def key_of(name: str, spec: EndpointSpec, where: str | None) -> str | None:
    """The key of an endpoint, from the environment; `None` where it needs none.

    Raises:
        InputError: As for `hosted`.
    """
    _refuse_secrets_in_address(name, spec, where)
    if spec.api_key_env is None:
        return None
    key = os.environ.get(spec.api_key_env, "").strip()
    if not key:
        raise InputError(
            Problem(
                what=f"endpoint {name!r} needs a key, but the environment variable {spec.api_key_env} is not set",
                where=where,
                hint=f"export {spec.api_key_env}=... and run the command again",
            )
        )
    if not key.isascii() or not key.isprintable():
        raise InputError(
            Problem(
                what=f"the key in the environment variable {spec.api_key_env} holds characters no key has",
                where=where,
                hint=f"set {spec.api_key_env} again, without line breaks",
            )
        )
    return key


def local(
    name: str,
    *,
    base_url: str,
    identity: str,
    price: Price,
    adapter_ids: Mapping[str, int],
    key: str | None = None,
    context_tokens: int | None = None,
    concurrency: int = 1,
) -> HttpEndpoint:
    """A llama.cpp server on this machine.

    Args:
        name: Name in the study.
        base_url: Where it listens, up to and including `/v1`.
        identity: Name and weight digest of the model it loaded.
        price: Price of the machine's time.
        adapter_ids: The id the server gave each loaded LoRA adapter, by the adapter's digest. Every request names all
            of them, since llama.cpp keeps the last choice otherwise.
        key: What the server wants to see before it answers.
        context_tokens: Context of one call.
        concurrency: Connections at the same time.
    """
    return HttpEndpoint(
        name=name,
        base_url=base_url,
        model=name,
        identity=identity,
        price=price,
        context_tokens=context_tokens,
        key=key,
        key_name="local server key" if key else None,
        adapter_ids=adapter_ids,
        concurrency=concurrency,
    )


def price_of(spec: EndpointSpec) -> Price:
    """The price study.yaml gives, with where it came from; all unknown when it gives none."""
    given = spec.price_per_million
    if given is None:
        return Price(provenance=Provenance(kind="assumed", source="no price given in study.yaml"))
    if given.as_of is None:
        provenance = Provenance(kind="assumed", source=given.source)
    else:
        provenance = Provenance(kind="quoted", source=given.source, as_of=given.as_of.isoformat())
    return Price(
        input_per_million_usd=given.input,
        cached_input_per_million_usd=given.cached_input,
        output_per_million_usd=given.output,
        provenance=provenance,
    )


def _refuse_secrets_in_address(name: str, spec: EndpointSpec, where: str | None) -> None:
    """The address is journalled and shown in reports, so nothing secret may stand in it; it is not quoted here."""
    parts = urlsplit(spec.base_url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(
            Problem(
                what=f"the base_url of endpoint {name!r} holds a password or a query, and would end up in reports",
                where=where,
                hint="give the bare address up to and including /v1, and the name of the key's variable in api_key_env",
            )
        )


def proxy_for(base_url: str) -> str | None:
    """The environment's proxy for this address, looked up once instead of per call; never for this machine itself."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    return getproxies().get(parts.scheme)
