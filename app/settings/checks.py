"""What no setting can tell alone: checks of several together, and of texts with a form. Pure."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.settings.gateway import Settings

_ORIGIN: Final = re.compile(r"https?://[^/?#@*\s]+/?", re.IGNORECASE)
_REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://")
_MIN_KEY_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Check:
    """Finds problems of some settings.

    Attributes:
        fields: what it looks at; while one of them is wrong by itself, it is not asked.
        problems: yields a sentence per problem; without values, for one may be a secret.
    """

    fields: tuple[str, ...]
    problems: Callable[["Settings"], Iterator[str]]


def problems_of(settings: "Settings", *, wrong: Collection[str] = ()) -> list[str]:
    """Return a sentence per problem; `wrong` names fields that are wrong by themselves."""
    return [
        problem
        for check in _CHECKS
        if not set(check.fields) & set(wrong)
        for problem in check.problems(settings)
    ]


def _check_public_bind(settings: "Settings") -> Iterator[str]:
    if not settings.needs_keys and not _is_loopback(settings.host):
        yield (
            f"listening on {settings.host} would open the gateway to everybody: set "
            "SWARMGATE_API_KEYS or SWARMGATE_KEYS__REQUIRED, or listen on 127.0.0.1"
        )


def _check_keys(settings: "Settings") -> Iterator[str]:
    has_keys = bool(settings.api_keys) or settings.keys.file is not None
    if settings.keys.required is False and has_keys:
        yield "SWARMGATE_KEYS__REQUIRED is false, but there are keys"
    if settings.needs_keys and not has_keys and settings.redis_url is None:
        yield (
            "keys are required, but there are none: set SWARMGATE_API_KEYS, "
            "SWARMGATE_KEYS__FILE or SWARMGATE_REDIS_URL"
        )


def _check_key_lengths(settings: "Settings") -> Iterator[str]:
    for name, keys in (("API_KEYS", settings.api_keys), ("ADMIN_KEYS", settings.admin_keys)):
        if any(len(key.get_secret_value()) < _MIN_KEY_LENGTH for key in keys):
            yield f"an API key in SWARMGATE_{name} has fewer than {_MIN_KEY_LENGTH} characters"


def _check_workers(settings: "Settings") -> Iterator[str]:
    if settings.workers > 1 and settings.redis_url is None:
        yield (
            f"{settings.workers} workers share streams, conversations and limits through Redis: "
            "set SWARMGATE_REDIS_URL, or run one worker"
        )


def _check_redis_url(settings: "Settings") -> Iterator[str]:
    url = settings.redis_url
    if url is not None and not url.get_secret_value().startswith(_REDIS_SCHEMES):
        yield f"SWARMGATE_REDIS_URL must begin with one of {', '.join(_REDIS_SCHEMES)}"


def _check_dht_prefix(settings: "Settings") -> Iterator[str]:
    if settings.dht_prefix is not None and len(settings.models) > 1:
        yield "SWARMGATE_DHT_PREFIX can be set only when one model is offered"


def _check_models(settings: "Settings") -> Iterator[str]:
    for source, count in Counter(settings.models).items():
        if count > 1:
            yield f"SWARMGATE_MODELS names {source} {count} times"


def _check_origins(settings: "Settings") -> Iterator[str]:
    for origin in settings.origins:
        if not _ORIGIN.fullmatch(origin):
            yield f"SWARMGATE_ORIGINS: expected e.g. https://chat.example.org, got {origin!r:.80}"


def _check_proxies(settings: "Settings") -> Iterator[str]:
    for proxy in settings.trusted_proxies:
        try:
            ip_network(proxy)
        except ValueError:
            yield (
                "SWARMGATE_TRUSTED_PROXIES: expected an address or a network, e.g. 10.0.0.0/8, "
                f"got {proxy!r:.80}"
            )


def _check_maddrs(settings: "Settings") -> Iterator[str]:
    for name in ("initial_peers", "host_maddrs", "announce_maddrs"):
        if any(not maddr.startswith("/") for maddr in getattr(settings, name)):
            yield f"SWARMGATE_{name.upper()}: a multiaddr begins with /, e.g. /ip4/127.0.0.1/tcp/0"


def _check_tracing(settings: "Settings") -> Iterator[str]:
    if settings.tracing.endpoint is not None and not _has_opentelemetry():
        yield "SWARMGATE_TRACING__ENDPOINT needs the extra: pip install 'swarmgate[opentelemetry]'"


def _has_opentelemetry() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


_CHECKS: Final = (
    Check(("host", "api_keys", "keys"), _check_public_bind),
    Check(("api_keys", "keys", "redis_url"), _check_keys),
    Check(("api_keys", "admin_keys"), _check_key_lengths),
    Check(("workers", "redis_url"), _check_workers),
    Check(("redis_url",), _check_redis_url),
    Check(("dht_prefix", "models"), _check_dht_prefix),
    Check(("models",), _check_models),
    Check(("origins",), _check_origins),
    Check(("trusted_proxies",), _check_proxies),
    Check(("initial_peers", "host_maddrs", "announce_maddrs"), _check_maddrs),
    Check(("tracing",), _check_tracing),
)
