"""The parameters that every dialect of ours shares: how tokens are chosen and when to stop."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from gateway.api.common.parameters import (
    TAG,
    ListOf,
    MapOf,
    RequestPart,
    honoured,
    ignored,
    refused,
    string_or_list,
)
from gateway.errors import InvalidRequest
from gateway.generation import draw_seed
from shared.messages import Sampling

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000
MAX_BIASES = 1024
MAX_INT32 = 2**31 - 1
SEED_LIMIT = 2**63

NO_LIMIT = -1

NO_BEAMS = "there is no beam search"
SPECIAL_TOKENS = "special tokens are never part of the text"


def _whole(value: Any) -> Any:
    """Languages with one kind of number write 100 as 100.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _not_zero(value: int) -> int:
    if value == 0:
        raise PydanticCustomError("token_limit", "must be at least 1, or -1 for no limit")
    return value


WholeNumber = Annotated[int, BeforeValidator(_whole)]
TokenLimit = Annotated[WholeNumber, Field(ge=NO_LIMIT, le=MAX_INT32), AfterValidator(_not_zero)]


def token_limit(wanted: int | None) -> int | None:
    """Return the most tokens of an answer; None: as many as the context has room for."""
    return None if wanted == NO_LIMIT else wanted


Stop = Annotated[
    Annotated[str, Tag(TAG + "string")] | Annotated[ListOf[str], Tag(TAG + "list")],
    Discriminator(
        string_or_list,
        custom_error_type="stop_type",
        custom_error_message="must be a string or a list of strings",
    ),
]


class TokenSampling(RequestPart):
    """How the next token is chosen, and for how long the model stays: the common fields of all
    dialects and local servers."""

    temperature: float | None = honoured("randomness of the choice; 0 is greedy", ge=0, le=2)
    top_p: float | None = honoured("choose among the likeliest with this mass", ge=0, le=1)
    top_k: WholeNumber | None = honoured(
        "choose among this many; 0 or -1: all", ge=-1, le=MAX_INT32
    )
    min_p: float | None = honoured("least probability relative to the likeliest's", ge=0, le=1)
    repetition_penalty: float | None = honoured("divides repeated logits", gt=0, le=10)
    presence_penalty: float | None = honoured("subtracted once for a seen token", ge=-2, le=2)
    frequency_penalty: float | None = honoured("subtracted per seen token", ge=-2, le=2)
    logit_bias: MapOf[float] | None = honoured(
        "token id to a bias from -100 to 100", max_length=MAX_BIASES
    )
    seed: WholeNumber | None = honoured(
        "same seed and request, same answer; random when left out", ge=-SEED_LIMIT, lt=SEED_LIMIT
    )
    ignore_eos: bool | None = honoured("go on after the end token, up to the token limit")
    ttl: float | None = honoured(
        "seconds without a request after which the model is unloaded from now on, where models are "
        "loaded on demand; 0: never",
        ge=0,
        le=MAX_INT32,
    )

    def sampling(self) -> Sampling:
        """Raises InvalidRequest for a bias that is not one."""
        return Sampling(
            seed=draw_seed() if self.seed is None else self.seed,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=None if self.top_k is None else max(0, self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=_biases(self.logit_bias) if self.logit_bias else {},
        )


class SamplingParameters(TokenSampling):
    """What OpenAI's chat and text completions have besides, and what clients of llama.cpp and vLLM
    send along."""

    stop: Stop | None = honoured("up to 16 texts that end the answer")
    n: WholeNumber | None = honoured("how many answers", ge=1, le=MAX_CHOICES)
    user: str | None = ignored("an end user's id; not used")

    cache_prompt: bool | None = ignored("prefixes are cached anyway")
    timings_per_token: bool | None = ignored("timings come at the end of the answer")
    spaces_between_special_tokens: bool | None = ignored(SPECIAL_TOKENS)
    skip_special_tokens: Any = refused(SPECIAL_TOKENS, True)
    include_stop_str_in_output: Any = refused("a stop text is not part of the answer", False)
    min_tokens: Any = refused("an answer has no least length", 0)
    best_of: Any = refused("use n, and choose among the answers", 1)
    use_beam_search: Any = refused(NO_BEAMS, False)
    early_stopping: Any = refused(NO_BEAMS, False)
    length_penalty: Any = refused(NO_BEAMS, 1, 1.0)

    def stops(self) -> list[str]:
        """Raises InvalidRequest for too many, empty or very long ones."""
        return checked_stops(self.stop, "stop")


def checked_stops(stop: str | list[str] | None, param: str) -> list[str]:
    """Raises InvalidRequest for too many, empty or very long ones."""
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > MAX_STOPS:
        raise InvalidRequest(f"{param}: at most {MAX_STOPS} stop texts are allowed.", param=param)
    for index, text in enumerate(stops):
        where = param if isinstance(stop, str) else f"{param}[{index}]"
        if not text:
            raise InvalidRequest(f"{where}: a stop text cannot be empty.", param=where)
        if len(text) > MAX_STOP_CHARACTERS:
            raise InvalidRequest(
                f"{where}: a stop text has at most {MAX_STOP_CHARACTERS} characters.", param=where
            )
    return stops


def _biases(raw: dict[str, float]) -> dict[int, float]:
    biases: dict[int, float] = {}
    for key, bias in raw.items():
        param = f"logit_bias.{key}"
        if not (key.isascii() and key.isdigit() and len(key) <= 10 and int(key) <= MAX_INT32):
            raise InvalidRequest(f"{param}: the key must be a token id.", param=param)
        if not -100 <= bias <= 100:
            raise InvalidRequest(f"{param}: a bias is from -100 to 100.", param=param)
        biases[int(key)] = bias
    return biases
