"""The worker's end of the wire: its sessions, its slots, what it says and when."""
