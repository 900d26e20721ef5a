"""What `scripts/chat` is made of: a conversation with a server, and the prompt it is held at."""
