"""From a request to token events: engine, replica pool, text in and out.

Entry point: `app.inference.engine.SwarmEngine`; what it takes and gives is in `requests`. Knows
`swarm_client` and no HTTP; what callers see is made in `app.api`. Exports nothing itself, because
the surfaces need `requests` only, which costs no torch.
"""
