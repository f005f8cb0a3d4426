"""Makes the demo model: a corpus made up from patterns, a tokenizer, a trainer and a check.

`python -m models.training.train` writes a model directory; `python -m models.training.check`
questions one. The sentences are data, in `phrases/`; `themes/` turns them into conversations.
"""
