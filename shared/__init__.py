"""What both tiers speak: messages, wire format, sockets, settings, logs. Imports neither tier."""
