"""Bodies that are not OpenAI's requests: answers as the OpenAPI document describes them, and the other forms."""
