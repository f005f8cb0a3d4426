"""From a request to token events: engine, replica pool, text in and out.

Entry point: `SwarmEngine`. Knows `swarm_client` and no HTTP; what callers see is made in `app.api`.
"""
