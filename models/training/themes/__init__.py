"""What the model can talk about, one module per theme.

A theme is a function from a seeded `Random` to an `Exchange`. It reads its words from a phrase
book, keeps no state, and knows nothing of other turns; `corpus` puts the turns together.
"""
