"""Petals' dialect: `POST /api/v1/generate` and `WS /api/v2/generate`, and ours beyond it.

Entry points: `v1.PetalsV1` and `v2.petals_v2`. Must not know the other dialects.
"""
