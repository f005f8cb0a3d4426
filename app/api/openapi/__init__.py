"""`GET /openapi.json`: the HTTP routes described, raw ASGI ones included.

Entry points: `document.openapi_document` and `router`. FastAPI cannot do it: the routes on which
tokens travel are not its own, and bodies are read by hand everywhere.
"""
