"""The `models:` section of study.yaml: which models there are, where they answer and what they cost."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


OWN_FIELDS = frozenset(
    {
        *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "seed", "response_format"),
        *("tools", "n", "best_of", "stream", "input", "query", "documents", "top_n"),
    }
)
"""Request fields that `extra_body` may not set: ours, those that multiply the answers paid for or leave some out, and
streaming."""


class Section(BaseModel):
    """Base of all sections of study.yaml: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class PriceSpec(Section):
    """What an endpoint's tokens cost, as the user found it on the vendor's page."""

    input: NotNegative
    """USD per million prompt tokens."""
    output: NotNegative | None = None
    """USD per million generated tokens; left out only for models that embed or rerank, which generate none."""
    cached_input: NotNegative | None = None
    """USD per million prompt tokens served from the provider's cache; left out, they cost as much as others."""
    batch_discount: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share off both prices for calls that can wait (the vendor's batch rate), 0..1; see `money.batch_share`."""
    source: str = "study.yaml"
    """The page the price was read from."""
    as_of: date | None = None
    """The day the price was read; left out, the price counts as assumed instead of quoted."""


class ChatPriceSpec(PriceSpec):
    """What the tokens of a chat model cost."""

    output: NotNegative
    """USD per million generated tokens."""


class EndpointSpec(Section):
    """A model behind an OpenAI-compatible address."""

    base_url: str
    """Address up to and including `/v1`."""
    model: str
    """Model name as the endpoint knows it."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; the key itself is never written down."""
    price_per_million: PriceSpec | None = None
    """What its tokens cost; without it costs are unknown and `--budget` is refused."""
    licence: str | None = None
    """What may be done with its answers, as its licence or the vendor's terms have it; kept with labels that
    `steelyard distill` grows. Some terms forbid training on answers."""
    retired_on: date | None = None
    """The day from which the vendor no longer serves this model, once known; `steelyard recheck` then leaves it out."""
    context_tokens: Annotated[int, Field(gt=0)] | None = None
    """Longest prompt plus answer in tokens, where known."""
    native_schema: bool = True
    """Whether the endpoint enforces `response_format: json_schema`; if not, the schema is written into the prompt."""
    tools: bool = True
    """Whether the endpoint takes tool definitions and answers with calls of them."""
    images: bool = False
    """Whether the endpoint takes pictures."""
    extra_body: dict[str, Any] = {}
    """Further fields sent with every request, as they are; not those the program sets itself or the budget rests on."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 16
    """Calls in flight at the same time."""
    embedding_batch: Annotated[int, Field(ge=1, le=2048)] = 64
    """Texts sent in one call for their embeddings at most; some servers take no more than 32, or 10."""
    requests_per_minute: Positive | None = None
    """Rate limit on calls."""
    tokens_per_minute: Positive | None = None
    """Rate limit on tokens, prompt and answer together."""
    timeout_s: Positive = 60.0
    """Seconds before one try is given up."""
    max_retries: Annotated[int, Field(ge=0, le=20)] = 4
    """Transport retries per call (429, 5xx, dropped connection, timeout)."""

    @model_validator(mode="after")
    def _address_is_http(self) -> EndpointSpec:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must begin with http:// or https://, got {self.base_url!r}")
        return self

    @model_validator(mode="after")
    def _extra_body_leaves_the_request_alone(self) -> EndpointSpec:
        taken = sorted(OWN_FIELDS & set(self.extra_body))
        if taken:
            raise ValueError(
                f"extra_body must not set {', '.join(taken)}: more or longer answers would break the budget, and the "
                "other fields are the program's own"
            )
        return self


class LocalModelSpec(Section):
    """The embedded model on this machine (SmolLM2-135M-Instruct unless told otherwise)."""

    gguf: str | None = None
    """Path of another GGUF file; left out, the pinned SmolLM2-135M-Instruct is fetched once."""
    folder: str | None = None
    """Path of a Hugging Face folder of the Llama family instead; it is converted to GGUF once. Needs the extra `tune`."""
    cpu_hour_usd: NotNegative = 0.05
    """Price of one busy CPU core for an hour; assumed unless you know yours."""
    context_tokens: Annotated[int, Field(ge=256, le=8192)] = 2048
    """Context of one call in tokens."""
    tools: bool = False
    """Whether the model's chat template knows tools; the one of the built-in model leaves them out without a word."""
    timeout_s: Positive = 120.0
    """Seconds before one try is given up."""

    @model_validator(mode="after")
    def _one_model(self) -> LocalModelSpec:
        if self.gguf is not None and self.folder is not None:
            raise ValueError("gguf and folder both name the model; leave one out")
        return self


class ModelsSpec(Section):
    """All models a study may use; `local` is always there."""

    local: LocalModelSpec = LocalModelSpec()
    """The embedded model."""
    endpoints: dict[str, EndpointSpec] = {}
    """Hosted or self-hosted models by name."""

    @model_validator(mode="after")
    def _local_is_taken(self) -> ModelsSpec:
        if "local" in self.endpoints:
            raise ValueError("the name 'local' is the embedded model; give the endpoint another name")
        return self
