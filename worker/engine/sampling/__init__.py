"""What a row draws: its own rules, penalties, randomness and log probabilities."""
