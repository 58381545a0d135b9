"""What a status other than 200 means: for whom trying again makes sense, and what a person has to mend."""

from __future__ import annotations

from steelyard.models.calls import Operation
from steelyard.models.chat_format import retry_after_s
from steelyard.models.endpoint import EndpointFault

_NOT_SPOKEN = {
    "embed": ("give embeddings", "name an endpoint that speaks /embeddings under knowledge.embeddings"),
    "rerank": ("rerank", "name an endpoint that speaks /rerank, or leave rerank out"),
}


def status_fault(
    status: int,
    said: str,
    *,
    url: str,
    model: str,
    operation: Operation,
    key_name: str | None,
    retry_after: str | None,
) -> EndpointFault:
    """The fault that a status stands for.

    Args:
        status: Of the HTTP answer.
        said: Its message, without secrets.
        url: What was asked.
        model: Its name on the wire.
        operation: What it was asked to do.
        key_name: Environment variable that holds the key; `None` where none was sent.
        retry_after: The header of this name.
    """
    if status in (401, 403):
        if key_name is None:
            what, hint = "a key is needed", "name the variable that holds it in api_key_env"
        else:
            what, hint = f"the key in ${key_name} was refused", f"set ${key_name} to a valid key"
        return EndpointFault("unusable", f"{url}: {what} ({status}): {said}", hint=hint)
    if operation != "chat" and status in (404, 405, 501):
        does, hint = _NOT_SPOKEN[operation]
        return EndpointFault(
            "unusable",
            f"{url} does not {does}, or does not know model {model!r} ({status}): {said}",
            hint=f"{hint}; check model and base_url",
        )
    if status == 404:
        return EndpointFault(
            "unusable", f"{url} does not know model {model!r} (404): {said}", hint="check model and base_url"
        )
    if 300 <= status < 400:
        return EndpointFault("unusable", f"{url} redirects ({status}), which is not followed", hint="check base_url")
    wait_s = retry_after_s(retry_after)
    if status == 429:
        return EndpointFault("rate_limited", f"{url}: too many requests (429): {said}", retry_after_s=wait_s)
    if status >= 500 or status in (408, 409):
        return EndpointFault(
            "timed_out" if status in (408, 504) else "server_error",
            f"{url}: server error ({status}): {said}",
            retry_after_s=wait_s,
        )
    return EndpointFault("rejected", f"{url}: request rejected ({status}): {said}")
