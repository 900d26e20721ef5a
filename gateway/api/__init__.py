"""The HTTP side: each dialect is parsed into a GenerationRequest and its events are rendered."""
