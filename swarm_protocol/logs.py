"""Loggers of the library packages: quiet until the program that uses them sets logging up.

structlog, when nobody has configured it, prints everything to stdout. A library may neither do
that nor configure it for everybody, so its lines go through the standard library's loggers.
"""

import logging

import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose fields become attributes of standard log records.

    Fields must not bear the name of an attribute that every `logging.LogRecord` has.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger
