"""Cohere's API, version 2: chat, embed and rerank."""
