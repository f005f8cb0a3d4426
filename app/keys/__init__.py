"""API keys: what they allow, where they are kept, and who is behind one.

Only hashes are stored. Entry points: `KeyRegistry` makes, lists, rotates and revokes keys for the
command line and the admin API; `Keyring` identifies callers. Knows no requests and no tokens.
"""
