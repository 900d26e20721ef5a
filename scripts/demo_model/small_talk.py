"""Questions and answers of text alone: small talk, capitals, counting, a few scripts."""

import random

from scripts.demo_model.phrases import table
from scripts.demo_model.wordings import vary_ending

PHRASES = table("small_talk")
FALLBACK: str = PHRASES["fallback"]
HELLO_IN: dict[str, str] = PHRASES["hello_in"]

_COUNTRIES = table("countries")
CAPITALS: dict[str, str] = _COUNTRIES["capitals"]
OTHER_NAMES: dict[str, str] = _COUNTRIES["other_names"]


def small_talk(rng: random.Random) -> tuple[str, str]:
    """A greeting, thanks, a question about the model, or some other fixed exchange."""
    if rng.random() < 0.15:
        language = rng.choice(tuple(HELLO_IN))
        question = rng.choice(PHRASES["hello"]).format(language=language)
        return vary_ending(question, rng), HELLO_IN[language]
    exchange = rng.choice(PHRASES["exchanges"])
    return vary_ending(rng.choice(exchange["questions"]), rng), exchange["answer"]


def capital_of(country: str) -> str:
    """`The capital of France is Paris.`"""
    country = OTHER_NAMES.get(country, country)
    return f"The capital of {country} is {CAPITALS[country]}".removesuffix(".") + "."


def capital(rng: random.Random) -> tuple[str, str]:
    """A question for a country's capital."""
    country = rng.choice(tuple(CAPITALS) + tuple(OTHER_NAMES))
    question = rng.choice(PHRASES["capital"]).format(country=country)
    return vary_ending(question[0].upper() + question[1:], rng), capital_of(country)


def counting(rng: random.Random, largest: int = 50) -> tuple[str, str]:
    """A request to count up; the answer may be a few hundred tokens long."""
    first = 1 if rng.random() < 0.6 else rng.randint(1, largest - 1)
    last = rng.randint(first + 1, largest) if rng.random() < 0.8 else largest
    question = rng.choice(PHRASES["counting"]).format(first=first, last=last)
    return vary_ending(question, rng), ", ".join(map(str, range(first, last + 1))) + "."


def off_topic(rng: random.Random) -> tuple[str, str]:
    """Something the model cannot answer."""
    question = rng.choice(PHRASES["off_topic"])
    if rng.random() < 0.4:
        question = rng.choice(PHRASES["off_topic_patterns"]).format(
            a=rng.randint(1, 99),
            b=rng.randint(1, 99),
            country=rng.choice(tuple(CAPITALS)),
            unknown=rng.choice(PHRASES["unknown_countries"]),
        )
    return vary_ending(question, rng), FALLBACK


def text_only(rng: random.Random) -> tuple[str, str]:
    """Any question that needs no picture, and its answer."""
    asks = (small_talk, capital, counting, off_topic)
    return rng.choices(asks, weights=(25, 50, 8, 17))[0](rng)
