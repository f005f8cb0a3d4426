"""`/api/v1/admin`: keys and models, changed while the gateway runs.

Entry points: `keys.router` and `models.router`. `app.access` asks for an admin key.
"""
