"""Load for a server with OpenAI's API: requests at a time or at a rate, and what becomes of them. No torch."""
