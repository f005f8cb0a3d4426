"""Anthropic's dialect: `POST /v1/messages` and `POST /v1/messages/count_tokens`.

Entry points: `messages_endpoint` and `router`, both in `messages`. Must not know OpenAI's dialects.
"""
