"""What outlives a request: journals and rate limits, in memory or in Redis.

Entry point: `app.state.store.open_state_store`. Two stores stand behind one Protocol and pass one
contract test suite. Knows owners and subjects as opaque hashes; must not know HTTP, API keys or
models.
"""
