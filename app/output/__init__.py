"""From the text of an answer to its parts: plain text, reasoning, calls of tools.

Entry point: `parts`. Parsers are pure and incremental. Must not know HTTP, models or journals.
"""
