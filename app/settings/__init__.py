"""Settings of the gateway: the one place of the `app` package that reads the environment.

Every name is `SWARMGATE_…`, nested ones with `__` (`SWARMGATE_ROUTING__BAN_S=5`). Lists are JSON
or comma-separated. Built once by `load_settings`, frozen, and handed to `create_app`.
"""

from app.settings.gateway import ENV_PREFIX, Settings
from app.settings.limits import LimitSettings
from app.settings.loading import SettingsError, load_settings, unknown_names

__all__ = [
    "ENV_PREFIX",
    "LimitSettings",
    "Settings",
    "SettingsError",
    "load_settings",
    "unknown_names",
]
