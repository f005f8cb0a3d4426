"""One answer per request: what the dialects with single answers do alike.

Entry point: `endpoint.AnswerEndpoint`, given a planner that reads the dialect; `dialects` has the
writers. A run makes tokens and writes them into a journal; whoever reads that sends them on.
"""
