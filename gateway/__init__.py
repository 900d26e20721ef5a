"""HTTP in, jobs out: the stateless tier that talks OpenAI's protocols to clients."""
