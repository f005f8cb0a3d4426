"""What the workers of a gateway do together: one makes canary tokens, all offer the same models.

Entry point: `Colleagues`, what this worker knows of the others by their common store. Must not know
requests, nor how many workers there are: a gateway that runs alone leads itself.
"""
