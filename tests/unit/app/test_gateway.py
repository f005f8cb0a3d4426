"""What the gateway tells its parts."""

from app.gateway import engine_settings
from app.settings import load_settings


def test_the_disk_limit_reaches_the_engine_in_bytes() -> None:
    """Without one, nothing is ever deleted."""
    assert engine_settings(load_settings({}, max_disk_gb=2.5)).max_disk_bytes == 2_500_000_000
    assert engine_settings(load_settings({})).max_disk_bytes is None
