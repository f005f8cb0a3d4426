"""Generations that outlive their connection: what they leave behind, and who goes on with it.

Entry point: `JournalKeeper`. A run writes a journal, a connection reads it; either may end without
the other, and either may be replaced, on this worker or on another one. Knows stores and entries;
must not know HTTP, WebSockets or how an answer is made.
"""
