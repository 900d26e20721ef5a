"""What a request is told whose path is none of this server's: paths of OpenAI's and Anthropic's
other services are named for what they are, since their base URL is right."""

from __future__ import annotations

from starlette.requests import Request

from gateway.errors import NotFound
from gateway.http.headers import origin

NOT_STORED = "no answer is stored, so each request brings its whole conversation"
NO_FILES = "nothing is stored; pictures and PDFs come inside the messages"
NO_BATCHES = "there are no batches; send each request by itself"

OTHER_SERVICES = {
    "/v1/embeddings": "it makes no embeddings",
    "/v1/rerank": "it does not rank documents",
    "/v1/audio": "it has no audio, neither in nor out",
    "/v1/images": "it looks at pictures and makes none",
    "/v1/videos": "it makes no videos",
    "/v1/moderations": "there is no moderation service",
    "/v1/files": NO_FILES,
    "/v1/uploads": NO_FILES,
    "/v1/vector_stores": NO_FILES,
    "/v1/batches": NO_BATCHES,
    "/v1/messages/batches": NO_BATCHES,
    "/v1/responses/input_tokens": "/v1/messages/count_tokens counts tokens here",
    "/v1/responses/compact": "a conversation is never shortened here",
    "/v1/responses": NOT_STORED,
    "/v1/conversations": NOT_STORED,
    "/v1/chat/completions": NOT_STORED,
    "/v1/assistants": "there are no assistants; use chat completions or responses",
    "/v1/threads": "there are no assistants; use chat completions or responses",
    "/v1/realtime": "there are no realtime sessions; streams are server-sent events",
    "/v1/fine_tuning": "models are not trained here",
}
"""Why they are not here, by what their paths begin with."""


def not_found(request: Request) -> NotFound:
    """Return the error of a path that there is not."""
    path = request.url.path
    for beginning, why in OTHER_SERVICES.items():
        if path == beginning or path.startswith(f"{beginning}/"):
            return NotFound(
                f"This server answers no {request.method} {path}: {why}. /docs shows what there is."
            )
    return NotFound(
        f"There is no {request.method} {path} here. The base URL for OpenAI's clients is "
        f"{origin(request)}/v1, for Anthropic's {origin(request)}; /docs shows what there is."
    )
