"""The many ways to word a question: synonyms, places, politeness, letter case, punctuation."""

import random

from scripts.demo_model.phrases import table

QUESTIONS = table("questions")
MANNERS = table("manners")


def question(about: str, rng: random.Random, **words: str) -> str:
    """One of the questions about that (a key of `questions.toml`), in some wording of it."""
    return vary(rng.choice(QUESTIONS[about]).format(**words), rng)


def random_place(quarter: str, rng: random.Random) -> str:
    """A quarter's place in words, with its preposition."""
    side, end = quarter.split()
    pattern: str = rng.choice(MANNERS["places"])
    return pattern.format(side=rng.choice(MANNERS["sides"][side]), end=end)


def vary(question: str, rng: random.Random) -> str:
    """The same question in other words: what it asks for stays as it is."""
    if rng.random() < 0.5:
        question = question.replace("image", rng.choice(MANNERS["image_words"]))
    if rng.random() < 0.2:
        question = question.replace("color", "colour")
    if rng.random() < 0.1:
        question = question.replace("gray", "grey")
    if rng.random() < 0.12:
        prefix = rng.choice(MANNERS["prefixes"])
        keeps_case = prefix.rstrip().endswith((".", "!", ":")) and rng.random() < 0.7
        question = prefix + (question if keeps_case else question[0].lower() + question[1:])
    return vary_ending(question, rng)


def vary_ending(question: str, rng: random.Random) -> str:
    """The same question with another ending or in other letter case."""
    choice = rng.random()
    if choice < 0.08:
        question += rng.choice(MANNERS["suffixes"])
    elif choice < 0.2:
        question = question.rstrip("?.")
    elif choice < 0.23:
        question = question.rstrip("?.") + rng.choice(MANNERS["endings"])
    choice = rng.random()
    if choice < 0.12:
        return question.lower()
    if choice < 0.13:
        return question.upper()
    if choice < 0.15:
        return rng.choice((" ", "\n")) + question + rng.choice((" ", "\n", ""))
    return question
