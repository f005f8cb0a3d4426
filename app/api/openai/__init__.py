"""OpenAI's older dialects: chats, completions, embeddings and models.

Entry points: `chat.chat_endpoint`, `completions.completions_endpoint`, `embeddings.Embeddings` and
`models.router`. The newer dialect is `app.api.responses`.
"""
