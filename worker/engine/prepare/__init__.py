"""From a job to tokens, pixels and a grammar, on threads beside the engine's."""
