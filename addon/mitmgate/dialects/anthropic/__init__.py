"""Anthropic's dialect: the Messages API, to the provider and from the client."""
