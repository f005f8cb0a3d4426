"""One runnable script per step of the guide; each is `python -m examples.<name>` with `--help`."""
