"""The engine behind HTTP, as OpenAI's clients expect it. Needs the extra `serve`; nothing else imports this folder."""
