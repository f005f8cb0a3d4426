"""What ends a request without anybody to be told."""


class CallerLeftError(Exception):
    """The caller went away; nobody is there to be told."""
