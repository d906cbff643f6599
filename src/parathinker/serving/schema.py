"""Bodies of requests: OpenAI's fields that are honoured, and those that are refused by name.

``null`` is the same as absent. A field of type :data:`Unsupported` is one that OpenAI has and this
server cannot honour; anything but null is an error that names it. So is a field nobody knows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from parathinker.serving.settings import Count, Show, Termination

Unsupported = Annotated[None, Field(description="Not supported: absent or null.")]
StopText = Annotated[str, Field(min_length=1)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
INT64 = 2**63


def _first_wrong_entry(value: Any) -> Any:
    """Texts by name; of those that are none, one is enough to refuse them all."""
    if not isinstance(value, dict):
        return value
    wrong = ({name: text} for name, text in value.items() if not isinstance(text, str))
    return next(wrong, value)


Texts = Annotated[dict[str, str], BeforeValidator(_first_wrong_entry)]


class Body(BaseModel):
    """Nothing unknown, and nothing converted: a number is no text.

    A client is told of one error. A small body can hold half a million, and each of them takes
    time and memory, so validation ends with the first one of a list.
    """

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _keep_one_unknown_field(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        unknown = value.keys() - cls.model_fields.keys()
        if len(unknown) < 2:
            return value
        first = next(name for name in value if name in unknown)
        return {k: v for k, v in value.items() if k == first or k not in unknown}


class Thinking(Body):
    """How to think; what is absent is the server's default, then the model's."""

    paths: Count | Literal["auto"] | None = Field(
        default=None, description="Paths side by side, or auto: more only while they disagree."
    )
    termination: Termination | None = Field(default=None, description="When thinking ends.")
    max_path_tokens: Count | None = Field(default=None, description="Tokens a path may have.")
    rounds: Count | None = Field(default=None, description="How often to think.")
    show: Show | None = Field(default=None, description="How much of the thinking to send.")


class StreamOptions(Body):
    """What a stream has beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class Sampling(Body):
    """What both endpoints take."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=1024)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4, fail_fast=True)] | None = Field(
        default=None,
        description="Texts that end the answer, and are not part of it; paths pass them.",
    )
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    max_tokens: Count | None = Field(default=None, description="Tokens of the answer.")
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    min_p: Share | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    user: str | None = Field(default=None, description="Accepted; nothing is done with it.")
    thinking: Thinking | None = None
    logit_bias: Unsupported = None


class TextPart(Body):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class Message(Body):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, fail_fast=True)]
    reasoning: str | None = Field(default=None, description="Of an earlier answer; not read again.")
    reasoning_content: str | None = None
    thinking: dict[str, Any] | None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    name: Unsupported = None
    refusal: Unsupported = None
    audio: Unsupported = None
    tool_calls: Unsupported = None
    tool_call_id: Unsupported = None
    function_call: Unsupported = None

    @property
    def text(self) -> str:
        """All of its parts."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class TextFormat(Body):
    """The only format of answers."""

    type: Literal["text"]


class ChatRequest(Sampling):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Count | None = Field(
        default=None, description="Tokens of the answer; thinking.max_path_tokens limits the paths."
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    metadata: Texts | None = Field(default=None, description="Accepted; not stored.")
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = Field(
        default=None, description="Accepted; nothing is done with it."
    )
    prompt_cache_key: str | None = Field(
        default=None, description="Accepted; prompts are always cached."
    )
    response_format: TextFormat | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, fail_fast=True)] | None = None
    audio: Unsupported = None
    function_call: Unsupported = None
    functions: Unsupported = None
    parallel_tool_calls: Unsupported = None
    prediction: Unsupported = None
    prompt_cache_retention: Unsupported = None
    reasoning_effort: Unsupported = None
    tool_choice: Unsupported = None
    tools: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None


class CompletionRequest(Sampling):
    """``POST /v1/completions``: text that goes on, without a chat template."""

    prompt: str | Annotated[list[str], Field(min_length=1, fail_fast=True)]
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: Unsupported = None
    suffix: Unsupported = None
