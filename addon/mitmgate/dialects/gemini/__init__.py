"""Gemini's generateContent: Google AI Studio and Vertex AI, both sides."""
