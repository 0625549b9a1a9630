"""POST /v1/responses: OpenAI's newer form of conversations, translated to that of chats and back."""
