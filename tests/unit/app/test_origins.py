"""Which pages may use the gateway."""

import pytest

from app.origins import OriginRules

SITE = "https://chat.example.org"


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (None, True),
        ("http://gateway:8000", True),
        ("https://GATEWAY:8000", True),
        (SITE, True),
        (SITE + "/", True),
        ("http://chat.example.org", False),
        ("https://chat.example.org.evil.example", False),
        ("http://gateway", False),
        ("null", False),
        ("", False),
        ("file://gateway:8000", False),
        ("http://[", False),
    ],
)
def test_our_own_pages_listed_sites_and_programs_may_call(
    origin: str | None, is_allowed: bool
) -> None:
    """Scheme, host and port count; a listed site is written in full."""
    rules = OriginRules([SITE], is_open=True)

    assert rules.allows_origin(origin, "gateway:8000") is is_allowed


def test_page_without_a_host_to_compare_with_is_foreign() -> None:
    """An empty Host must not match an empty Origin."""
    assert not OriginRules([], is_open=False).allows_origin("http://", "")


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("192.168.1.5", True),
        ("localhost:8000", True),
        ("chat.localhost", True),
        ("gateway", True),
        ("chat.example.org", True),
        ("", True),
        ("rebound.evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("rebound.evil.example.", False),
        ("localhost.evil.example", False),
        ("[::1", False),
    ],
)
def test_open_gateway_answers_only_to_names_nobody_can_register(
    host: str, is_allowed: bool
) -> None:
    """Else a page could have its own name point to us, and be of our origin (DNS rebinding)."""
    assert OriginRules([SITE], is_open=True).allows_host(host) is is_allowed


def test_gateway_with_keys_answers_to_every_name() -> None:
    """A foreign page has no key, whatever its name points to."""
    assert OriginRules([], is_open=False).allows_host("gateway.example.org")
