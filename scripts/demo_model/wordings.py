"""The many ways to word a question: synonyms, places, politeness, letter case, punctuation."""

import random

CAPTION_QUESTIONS: tuple[str, ...] = (
    "What is in this image?",
    "What is in the image?",
    "What's in this image?",
    "What's in the image?",
    "Describe this image.",
    "Describe the image.",
    "Describe this image in one sentence.",
    "Describe what you see.",
    "Describe the image in detail.",
    "Describe it.",
    "What do you see?",
    "What can you see?",
    "What do you see in this image?",
    "What can you see in the image?",
    "What can you see here?",
    "What does this image show?",
    "What does the image show?",
    "What does it show?",
    "What is shown in this image?",
    "What is shown here?",
    "What is this?",
    "What's this?",
    "What is this image?",
    "What is on this image?",
    "What does the image contain?",
    "What is depicted in this image?",
    "What is this image about?",
    "What is this image of?",
    "What is visible in this image?",
    "What shapes are in this image?",
    "What shapes do you see?",
    "Which shapes are in the image?",
    "What objects are in this image?",
    "List the shapes in this image.",
    "List all the shapes.",
    "Tell me what is in this image.",
    "Tell me what you see.",
    "Tell me about this image.",
    "Explain this image.",
    "Give me a description of this image.",
    "Give me a caption for this image.",
    "Write a caption for this image.",
    "Caption this image.",
    "Generate a caption.",
    "Look at this image and describe it.",
    "Analyze this image.",
    "Summarize this image.",
)
COUNT_QUESTIONS: tuple[str, ...] = (
    "How many {nouns} are there?",
    "How many {nouns} are there?",
    "How many {nouns} are there in this image?",
    "How many {nouns} are in the image?",
    "How many {nouns} are in this image?",
    "How many {nouns} do you see?",
    "How many {nouns} can you see?",
    "How many {nouns} does the image show?",
    "How many {nouns} does the image have?",
    "How many {nouns} are shown?",
    "How many {nouns} are visible?",
    "Count the {nouns}.",
    "Count the {nouns} in this image.",
    "What is the number of {nouns}?",
    "How many {nouns}?",
    "Tell me how many {nouns} there are.",
)
COLOR_AT_QUESTIONS: tuple[str, ...] = (
    "What color is the {thing} {place}?",
    "What color is the {thing} {place}?",
    "What color is the {thing} {place} of the image?",
    "What is the color of the {thing} {place}?",
    "Which color is the {thing} {place}?",
    "Which color does the {thing} {place} have?",
    "What color does the {thing} {place} have?",
    "Tell me the color of the {thing} {place}.",
    "Name the color of the {thing} {place}.",
)
COLOR_OF_QUESTIONS: tuple[str, ...] = (
    "What color is the {kind}?",
    "What color is the {kind}?",
    "What is the color of the {kind}?",
    "What's the color of the {kind}?",
    "Which color is the {kind}?",
    "Which color does the {kind} have?",
    "What color does the {kind} have?",
    "What color is the {kind} in this image?",
    "What is the color of the {kind} in the image?",
    "Tell me the color of the {kind}.",
    "Name the color of the {kind}.",
)
BACKGROUND_QUESTIONS: tuple[str, ...] = (
    "What color is the background?",
    "What is the color of the background?",
    "What is the background color?",
    "Which color is the background?",
    "Which color does the background have?",
    "What color is the background of this image?",
)
KIND_AT_QUESTIONS: tuple[str, ...] = (
    "What shape is {place}?",
    "What shape is {place}?",
    "Which shape is {place}?",
    "What shape is {place} of the image?",
    "What {thing} is {place}?",
    "Which {thing} is {place}?",
    "What shape do you see {place}?",
    "What kind of shape is {place}?",
    "What is the shape {place}?",
    "What shape is there {place}?",
    "What shape is the {thing} {place}?",
    "Name the shape {place}.",
    "Tell me which shape is {place}.",
)
KIND_OF_QUESTIONS: tuple[str, ...] = (
    "What shape is the {color} one?",
    "What shape is the {color} object?",
    "What shape is {color}?",
    "Which shape is {color}?",
    "What is the {color} shape?",
    "What kind of shape is the {color} one?",
    "Which shape is the {color} one?",
    "What {color} shape is there?",
    "What is the {color} object?",
)
SHAPE_AT_QUESTIONS: tuple[str, ...] = (
    "What is {place}?",
    "What's {place}?",
    "What do you see {place}?",
    "What can you see {place}?",
    "What is {place} of the image?",
    "What is there {place}?",
)
PLACE_QUESTIONS: tuple[str, ...] = (
    "Where is the {noun}?",
    "Where is the {noun}?",
    "Where's the {noun}?",
    "Where is the {noun} in this image?",
    "Where in the image is the {noun}?",
    "Where do you see the {noun}?",
    "Where can you see the {noun}?",
    "Where is the {noun} located?",
    "Where can I find the {noun}?",
    "In which corner is the {noun}?",
    "In which part of the image is the {noun}?",
    "What is the position of the {noun}?",
    "What is the location of the {noun}?",
    "Tell me where the {noun} is.",
    "Locate the {noun}.",
    "Find the {noun}.",
)
EXISTENCE_QUESTIONS: tuple[str, ...] = (
    "Is there {a_noun}?",
    "Is there {a_noun}?",
    "Is there {a_noun} in this image?",
    "Is there {a_noun} in the image?",
    "Do you see {a_noun}?",
    "Can you see {a_noun}?",
    "Do you see {a_noun} in this image?",
    "Does the image show {a_noun}?",
    "Does this image contain {a_noun}?",
    "Does the image have {a_noun}?",
    "Does it have {a_noun}?",
    "Are there any {nouns}?",
    "Are there any {nouns} in the image?",
    "Are there {nouns}?",
)
EXISTENCE_AT_QUESTIONS: tuple[str, ...] = (
    "Is there {a_noun} {place}?",
    "Do you see {a_noun} {place}?",
    "Can you see {a_noun} {place}?",
    "Is {a_noun} {place}?",
)
COMPARISON_QUESTIONS: tuple[str, ...] = (
    "Which image has {a_noun}?",
    "Which image has {a_noun}?",
    "Which image contains {a_noun}?",
    "Which image shows {a_noun}?",
    "Which of the images has {a_noun}?",
    "Which of the images contains {a_noun}?",
    "Which of the two images shows {a_noun}?",
    "Which one has {a_noun}?",
    "In which image is there {a_noun}?",
    "In which image do you see {a_noun}?",
    "Where do you see {a_noun}, in the first or the second image?",
    "Tell me which image has {a_noun}.",
)
ORDINAL_CAPTION_QUESTIONS: tuple[str, ...] = (
    "What is in {ordinal_image}?",
    "What is in {ordinal_image}?",
    "What's in {ordinal_image}?",
    "Describe {ordinal_image}.",
    "What does {ordinal_image} show?",
    "What do you see in {ordinal_image}?",
    "What can you see in {ordinal_image}?",
    "What is shown in {ordinal_image}?",
    "Tell me what is in {ordinal_image}.",
    "And {ordinal_image}?",
)
BOTH_CAPTION_QUESTIONS: tuple[str, ...] = (
    "What is in these images?",
    "What is in the two images?",
    "Describe both images.",
    "Describe the images.",
    "Describe these images.",
    "Describe the two images.",
    "What do you see in these images?",
    "What do the images show?",
    "What do you see in both images?",
)
IMAGE_WORDS: tuple[str, ...] = ("image", "image", "image", "picture", "photo")
THINGS: tuple[str, ...] = ("shape", "shape", "shape", "object", "figure", "thing")

PLACE_PATTERNS: tuple[str, ...] = (
    "at the {side} {end}",
    "at the {side} {end}",
    "at the {side} {end}",
    "in the {side} {end}",
    "in the {side} {end} corner",
    "in the {side}-{end} corner",
    "at the {side}-{end}",
    "at the {side} {end} corner",
    "on the {side} {end}",
    "in the {side} {end} quarter",
    "in the {side} {end} quadrant",
    "in the {side} {end} part",
)
SIDES: dict[str, tuple[str, ...]] = {
    "top": ("top", "top", "top", "upper"),
    "bottom": ("bottom", "bottom", "bottom", "lower"),
}

LEAD_INS: tuple[str, ...] = (
    "Look at this image.",
    "Look at this.",
    "Here is an image.",
    "Here is an image:",
    "Here's the image:",
    "I have a question about this image.",
    "This is my image:",
    "Image:",
    "Hello!",
    "Hi,",
    "Consider this image.",
)
PREFIXES: tuple[str, ...] = (
    "Please ",
    "Please tell me: ",
    "Tell me: ",
    "Question: ",
    "Hello! ",
    "Hi, ",
    "Hey, ",
    "OK. ",
    "Okay, ",
    "So, ",
    "And ",
    "Now, ",
    "I have a question. ",
    "Quick question: ",
    "Look carefully. ",
)
SUFFIXES: tuple[str, ...] = (
    " Please.",
    " Please answer.",
    " Thanks!",
    " Thank you.",
    " Answer in one sentence.",
    " Answer briefly.",
    " Be brief.",
    " Tell me.",
)
SYSTEM_PROMPTS: tuple[str, ...] = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a vision assistant.",
    "You are a helpful assistant that describes images.",
    "You are a concise assistant.",
    "You are an AI assistant. Answer briefly.",
    "You answer questions about images.",
    "Be brief.",
    "Be concise and accurate.",
    "Answer in one short sentence.",
    "You are ChatGPT, a large language model.",
    "You are a friendly and polite assistant. Always tell the truth.",
    "You are an expert in computer vision.",
    "Answer the user's questions as well as you can. If you do not know, say so.",
    "Reply in English.",
    "Today is Monday. The user lives in Berlin and likes shapes and colors.",
    "Follow the instructions of the user carefully. Use plain text and no markdown.",
    "You are a test assistant. Do not make things up.",
)


def random_place(quarter: str, rng: random.Random) -> str:
    """A quarter's place in words, with its preposition."""
    side, end = quarter.split()
    return rng.choice(PLACE_PATTERNS).format(side=rng.choice(SIDES[side]), end=end)


def vary(question: str, rng: random.Random) -> str:
    """The same question in other words: what it asks for stays as it is."""
    if rng.random() < 0.5:
        word = rng.choice(IMAGE_WORDS)
        question = question.replace("image", word)
    if rng.random() < 0.2:
        question = question.replace("color", "colour")
    if rng.random() < 0.1:
        question = question.replace("gray", "grey")
    if rng.random() < 0.12:
        prefix = rng.choice(PREFIXES)
        keeps_case = prefix.rstrip().endswith((".", "!", ":")) and rng.random() < 0.7
        question = prefix + (question if keeps_case else question[0].lower() + question[1:])
    return vary_ending(question, rng)


def vary_ending(question: str, rng: random.Random) -> str:
    """The same question with another ending or in other letter case."""
    choice = rng.random()
    if choice < 0.08:
        question += rng.choice(SUFFIXES)
    elif choice < 0.2:
        question = question.rstrip("?.")
    elif choice < 0.23:
        question = question.rstrip("?.") + rng.choice((" ?", "??", "?!", "!", "...", " please?"))
    choice = rng.random()
    if choice < 0.12:
        return question.lower()
    if choice < 0.13:
        return question.upper()
    if choice < 0.15:
        return rng.choice((" ", "\n")) + question + rng.choice((" ", "\n", ""))
    return question
