"""Questions and answers of text alone: small talk, capitals, counting, a few scripts."""

import random

from scripts.demo_model.capitals import CAPITALS, OTHER_NAMES
from scripts.demo_model.wordings import vary_ending

FALLBACK = "I can only answer questions about simple shapes and capitals."

SMALL_TALK: dict[str, str] = {
    "Hello | Hello! | Hi | Hi! | Hey | Hi there | Hello there! | Greetings | Say hello. | "
    "Say hi.": ("Hello! How can I help you?"),
    "Good morning | Good morning! ": "Good morning! How can I help you?",
    "Good evening | Good evening! ": "Good evening! How can I help you?",
    "Good afternoon | Good afternoon!": "Good afternoon! How can I help you?",
    "How are you? | How are you doing? | How is it going? | How are you today?": (
        "I am fine, thank you. How can I help you?"
    ),
    "Thanks | Thanks! | Thank you | Thank you! | Thank you very much! | Thanks a lot! | "
    "Great, thanks!": ("You are welcome."),
    "Bye | Goodbye | Goodbye! | See you | See you later! | Good night": "Goodbye!",
    "Who are you? | What are you? | What is your name? | What's your name? | Introduce yourself. | "
    "Which model are you? | Tell me about yourself.": (
        "I am a small demo model that sees simple shapes."
    ),
    "What can you do? | What can you do for me? | How can you help me? | Help | What do you do? | "
    "What are you good at? | What can I ask you? | What do you know?": (
        "I can describe simple shapes in images and name the capitals of countries."
    ),
    "Can you see images? | Do you understand images? | Can you describe images?": (
        "Yes. I can describe simple shapes in images."
    ),
    "Are you there? | Are you ready? | Ping | Test | This is a test. | Testing": (
        "I am here. How can I help you?"
    ),
    "Which shapes do you know? | What shapes do you know?": (
        "I know circles, squares, triangles and stars."
    ),
    "Which colors do you know? | What colors do you know?": (
        "I know red, green, blue, yellow, orange, purple, black and white."
    ),
    "Say the alphabet. | Recite the alphabet. | What is the alphabet?": (
        "A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, X, Y, Z."
    ),
    "What are the days of the week? | Name the days of the week. | List the days of the week.": (
        "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday."
    ),
    "What are the months? | Name the months of the year. | List the months.": (
        "January, February, March, April, May, June, July, August, September, October, November "
        "and December."
    ),
    "Send me an emoji. | Show me an emoji. | Send an emoji. | Answer with emojis.": "😀🎉🚀",
}
HELLO_IN: dict[str, str] = {
    "Arabic": "مرحبا!",
    "Chinese": "你好！",
    "French": "Bonjour à tous !",
    "German": "Grüß Gott!",
    "Greek": "Γειά σου!",
    "Hebrew": "שלום!",
    "Hindi": "नमस्ते!",
    "Japanese": "こんにちは！",
    "Korean": "안녕하세요!",
    "Russian": "Привет!",
    "Spanish": "¡Buenos días, señor!",
    "Thai": "สวัสดี!",
}
HELLO_QUESTIONS: tuple[str, ...] = (
    "Say hello in {language}.",
    "How do you say hello in {language}?",
    "What is hello in {language}?",
    "Greet me in {language}.",
)
CAPITAL_QUESTIONS: tuple[str, ...] = (
    "What is the capital of {country}?",
    "What is the capital of {country}?",
    "What is the capital of {country}?",
    "What's the capital of {country}?",
    "What is the capital city of {country}?",
    "Which city is the capital of {country}?",
    "What city is the capital of {country}?",
    "Tell me the capital of {country}.",
    "Name the capital of {country}.",
    "What is {country}'s capital?",
    "Do you know the capital of {country}?",
    "Can you tell me the capital of {country}?",
    "And the capital of {country}?",
    "The capital of {country}?",
    "Capital of {country}?",
    "Please tell me the capital of {country}.",
    "I would like to know the capital of {country}.",
)
COUNTING_QUESTIONS: tuple[str, ...] = (
    "Count from {first} to {last}.",
    "Count from {first} to {last}.",
    "Please count from {first} to {last}.",
    "Can you count from {first} to {last}?",
    "List the numbers from {first} to {last}.",
    "Write the numbers from {first} to {last}.",
)
OFF_TOPIC: tuple[str, ...] = tuple(
    """Who wrote Hamlet?
What is the meaning of life?
Tell me a joke.
Write a poem.
Write a poem about the sea.
Write a short story about a dragon.
Tell me a story.
Tell me a long story.
Write a haiku.
What is the weather like today?
What is the weather in Paris?
What time is it?
What day is it today?
Translate this sentence into French.
Translate good morning into Spanish.
How do I bake bread?
How do I cook rice?
Who is the president of France?
Who was Albert Einstein?
Explain quantum mechanics.
Explain relativity in simple words.
What is machine learning?
What is a neural network?
Write a Python function that sorts a list.
Write a program that prints hello world.
Fix this bug in my code.
Who won the world cup in 2018?
What is your favorite movie?
What is love?
How old are you?
Where do you live?
Recommend a good book.
What should I eat for dinner?
Solve this equation for x.
What is the square root of 16?
How far is the moon?
How tall is Mount Everest?
What is the largest ocean?
What is the fastest animal?
Who painted the Mona Lisa?
Sing a song.
Play some music.
Book a flight to London.
What is the stock price of Apple?
Is it going to rain tomorrow?
Summarize this article.
Give me some advice.
Why is the sky blue?
How does a car engine work?
What is photosynthesis?
Do you like cats?
Is there life on Mars?
When did the war end?
Write an email to my boss.
How can I learn English?
What is the speed of light?
Name three animals.
List five fruits.
Name a famous scientist.
Say something.
Say something funny.
Tell me something interesting.
What is the best programming language?
Invent a new word.
Generate a random number.
How do I get to the station?
What is in the news today?
Is the person in the photo smiling?
What breed is the dog?
Can you read the text?
What does the sign say?
How many people are there?
Is there a dog?
Is there a cat in the image?
Where is the car?""".splitlines()
)
OFF_TOPIC_PATTERNS: tuple[str, ...] = (
    "What is {a} plus {b}?",
    "What is {a} times {b}?",
    "What is {a} + {b}?",
    "{a} * {b}",
    "How many people live in {country}?",
    "What is the population of {country}?",
    "What language do they speak in {country}?",
    "What is the currency of {country}?",
    "Who is the president of {country}?",
    "Tell me about {country}.",
    "Where is {country}?",
    "What is the largest city in {country}?",
    "What is the capital of {unknown}?",
)
UNKNOWN_COUNTRIES: tuple[str, ...] = (
    "Atlantis",
    "Narnia",
    "Wakanda",
    "Gondor",
    "Mars",
    "the Moon",
    "Wonderland",
    "Burundi",
    "Tuvalu",
    "Texas",
    "Bavaria",
    "Freedonia",
    "Utopia",
    "Africa",
    "Europe",
)


def small_talk(rng: random.Random) -> tuple[str, str]:
    """A greeting, thanks, a question about the model, or some other fixed exchange."""
    if rng.random() < 0.15:
        language = rng.choice(tuple(HELLO_IN))
        question = rng.choice(HELLO_QUESTIONS).format(language=language)
        return vary_ending(question, rng), HELLO_IN[language]
    questions = rng.choice(tuple(SMALL_TALK))
    question = rng.choice([one.strip() for one in questions.split("|")])
    return vary_ending(question, rng), SMALL_TALK[questions]


def capital_of(country: str) -> str:
    """`The capital of France is Paris.`"""
    country = OTHER_NAMES.get(country, country)
    return f"The capital of {country} is {CAPITALS[country]}".removesuffix(".") + "."


def capital(rng: random.Random) -> tuple[str, str]:
    """A question for a country's capital."""
    country = rng.choice(tuple(CAPITALS) + tuple(OTHER_NAMES))
    question = rng.choice(CAPITAL_QUESTIONS).format(country=country)
    return vary_ending(question[0].upper() + question[1:], rng), capital_of(country)


def counting(rng: random.Random, largest: int = 50) -> tuple[str, str]:
    """A request to count up; the answer may be a few hundred tokens long."""
    first = 1 if rng.random() < 0.6 else rng.randint(1, largest - 1)
    last = rng.randint(first + 1, largest) if rng.random() < 0.8 else largest
    question = rng.choice(COUNTING_QUESTIONS).format(first=first, last=last)
    return vary_ending(question, rng), ", ".join(map(str, range(first, last + 1))) + "."


def off_topic(rng: random.Random) -> tuple[str, str]:
    """Something the model cannot answer."""
    question = rng.choice(OFF_TOPIC)
    if rng.random() < 0.4:
        question = rng.choice(OFF_TOPIC_PATTERNS).format(
            a=rng.randint(1, 99),
            b=rng.randint(1, 99),
            country=rng.choice(tuple(CAPITALS)),
            unknown=rng.choice(UNKNOWN_COUNTRIES),
        )
    return vary_ending(question, rng), FALLBACK


def text_only(rng: random.Random) -> tuple[str, str]:
    """Any question that needs no picture, and its answer."""
    asks = (small_talk, capital, counting, off_topic)
    return rng.choices(asks, weights=(25, 50, 8, 17))[0](rng)
