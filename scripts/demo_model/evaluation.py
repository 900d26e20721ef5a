"""Ask a served model fresh questions and count the answers that are exactly right."""

import base64
import json
import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import httpx
from tqdm import tqdm

from scripts.demo_model.questions import QUESTION_KINDS, Example, Message, random_question
from scripts.demo_model.scenes import random_file
from scripts.demo_model.structured.examples import STRUCTURED_KINDS, random_example

Ask = Callable[[Message], str]
KINDS = (*QUESTION_KINDS, *STRUCTURED_KINDS)
MOST_TOKENS = 300
EXAMPLES = 5


@dataclass
class Tally:
    """The results of one kind of question."""

    kind: str
    asked: int = 0
    right: int = 0
    failed: int = 0
    wrong_examples: list[dict[str, str]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of right answers among all questions, failed requests included."""
        return self.right / self.asked if self.asked else 0.0


def client(url: str, api_key: str | None, timeout: float) -> httpx.Client:
    """What asks the OpenAI-compatible server at `url`."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=timeout)


def served(server: httpx.Client, model: str) -> Ask:
    """A function that asks that model; raises httpx.HTTPError."""
    settings = {"model": model, "max_tokens": MOST_TOKENS, "temperature": 0}

    def ask(request: Message) -> str:
        answer = server.post("/v1/chat/completions", json={**request, **settings})
        answer.raise_for_status()
        return said(answer.json()["choices"][0]["message"])

    return ask


def said(message: Message) -> str:
    """The answer's text, or its calls as examples have them; raises ValueError if they are cut."""
    if not message.get("tool_calls"):
        return str(message["content"])
    functions = [call["function"] for call in message["tool_calls"]]
    calls = [{"name": one["name"], "arguments": json.loads(one["arguments"])} for one in functions]
    return json.dumps(calls, ensure_ascii=False)


def first_model(server: httpx.Client) -> str:
    """The id of the first model that the server lists."""
    return str(server.get("/v1/models").raise_for_status().json()["data"][0]["id"])


def with_images(example: Example, rng: random.Random) -> list[Message]:
    """The conversation's messages with its scenes as data URLs of any format."""
    scenes = iter(example.scenes)

    def filled(part: Message) -> Message:
        if part["type"] != "image":
            return part
        data, image_format = random_file(next(scenes), rng)
        encoded = base64.b64encode(data).decode()
        url = f"data:image/{image_format.lower()};base64,{encoded}"
        return {"type": "image_url", "image_url": {"url": url}}

    messages = []
    for message in example.messages:
        content = message["content"]
        if isinstance(content, list):
            content = [filled(part) for part in content]
        messages.append({**message, "content": content})
    return messages


def tasks(kinds: Iterable[str], count: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """(kind, number, seed) of every question, the kinds taking turns."""
    names = list(kinds)
    for number in range(count):
        for kind in names:
            yield kind, number, seed


def last_question(example: Example) -> str:
    """The last message, images as `[image]`."""
    content = example.messages[-1]["content"]
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "[image]") for part in content)


def evaluate(
    ask: Ask,
    count: int,
    seed: int,
    concurrency: int,
    kinds: Iterable[str] = KINDS,
) -> list[Tally]:
    """Ask `count` questions of every kind, up to `concurrency` at once; a terminal sees a bar."""
    kinds = tuple(kinds)

    def run(task: tuple[str, int, int]) -> tuple[Example, str | None, str]:
        kind, number, run_seed = task
        rng = random.Random(f"evaluation {run_seed} {kind} {number}")
        example = (random_question if kind in QUESTION_KINDS else random_example)(kind, rng)
        try:
            return example, ask({"messages": with_images(example, rng), **example.request}), ""
        except httpx.HTTPStatusError as error:
            return example, None, f"{error}: {error.response.text[:500]}"
        except (httpx.HTTPError, KeyError, ValueError) as error:
            return example, None, str(error)

    tallies = {kind: Tally(kind) for kind in kinds}
    with ThreadPoolExecutor(concurrency) as pool:
        results = pool.map(run, tasks(kinds, count, seed))
        for example, answer, error in tqdm(results, total=count * len(kinds), disable=None):
            note(tallies[example.kind], example, answer, error)
    return list(tallies.values())


def note(tally: Tally, example: Example, answer: str | None, error: str) -> None:
    """Count one result; the first wrong ones are kept as examples."""
    tally.asked += 1
    tally.failed += answer is None
    if answer == example.answer:
        tally.right += 1
    elif len(tally.wrong_examples) < EXAMPLES:
        tally.wrong_examples.append(
            {
                "question": last_question(example),
                "expected": example.answer,
                "answer": error if answer is None else answer,
                "sizes": " ".join(f"{s.width}x{s.height}" for s in example.scenes),
            }
        )


def table(tallies: list[Tally]) -> str:
    """The results as lines of text."""
    lines = [f"{'kind':<15}{'asked':>7}{'right':>7}{'failed':>8}{'share':>9}"]
    lines += [f"{t.kind:<15}{t.asked:>7}{t.right:>7}{t.failed:>8}{t.share:>9.1%}" for t in tallies]
    return "\n".join(lines)


def as_json(tallies: list[Tally]) -> str:
    """The results with examples of wrong answers."""
    results = [{**asdict(tally), "share": round(tally.share, 4)} for tally in tallies]
    return json.dumps(results, indent=2, ensure_ascii=False)
