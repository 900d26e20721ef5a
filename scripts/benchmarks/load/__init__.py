"""Load on a server: what is asked, the client, open and closed loops."""
