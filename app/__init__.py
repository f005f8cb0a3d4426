"""The gateway: HTTP, SSE and WebSocket endpoints in front of a swarm.

Entry point: `app.main.create_app`. Knows callers, keys and limits; must not know block servers.
"""
