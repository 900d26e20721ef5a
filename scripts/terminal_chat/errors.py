"""What can go wrong in a conversation."""


class ChatError(Exception):
    """Something the user can understand and act on."""
