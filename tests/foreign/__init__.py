"""A worker that has nothing of ours but docs/protocol.md, and what a real gateway makes of it."""
