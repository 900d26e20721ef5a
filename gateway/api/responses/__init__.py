"""OpenAI's responses, without state: the conversation comes whole with each request."""
