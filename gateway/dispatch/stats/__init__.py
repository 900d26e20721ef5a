"""What has happened, for people and for monitors."""
