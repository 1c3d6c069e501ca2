"""The built-in simulator: a real loopback HTTP server that speaks the OpenAI API, without a key and without chance."""
