"""Ranking: its canonical form, and servers that take it as POST /v1/rerank (Jina, Voyage, vLLM and their like)."""
