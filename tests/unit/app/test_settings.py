"""Settings: where they come from, and what is refused."""

import re
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.settings import Settings, SettingsError, load_settings, unknown_names


def _set(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    for name, value in names.items():
        monkeypatch.setenv(f"SWARMGATE_{name}", value)


def test_defaults_work_on_a_laptop() -> None:
    """Loopback, no keys, the demo model."""
    settings = load_settings({})

    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.models == ("models/demo",)


@pytest.mark.parametrize("text", ["a/b,c", ' a/b , "c"'.replace('"', ""), '["a/b", "c"]'])
def test_lists_are_json_or_comma_separated(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Both forms mean the same."""
    _set(monkeypatch, MODELS=text)

    assert load_settings().models == ("a/b", "c")


def test_nested_settings_have_double_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    """One name per number."""
    _set(monkeypatch, ROUTING__BAN_S="5", LIMITS__MAX_GENERATIONS="7")

    settings = load_settings()

    assert (settings.routing.ban_s, settings.limits.max_generations) == (5.0, 7)


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line is nearer."""
    _set(monkeypatch, PORT="9000")

    assert load_settings(port=9001).port == 9001


def test_unknown_names_refuse_to_start_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error must not be a default."""
    with pytest.raises(SettingsError, match="SWARMGATE_PROT is no setting"):
        load_settings({"SWARMGATE_PROT": "1", "HOME": "/"})

    _set(monkeypatch, LIMITS__MAX="1")
    with pytest.raises(SettingsError, match="SWARMGATE_LIMITS__MAX is no setting"):
        load_settings()


def test_nested_and_lower_case_names_are_known() -> None:
    """The environment's case does not matter."""
    assert unknown_names(["swarmgate_port", "SWARMGATE_ROUTING__BAN_S", "PATH"]) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"port": 70000}, "SWARMGATE_PORT: should be less than or equal to 65535"),
        ({"port": "x"}, "SWARMGATE_PORT: expected an integer"),
        ({"models": ""}, "SWARMGATE_MODELS: "),
        ({"models": "[1,"}, "SWARMGATE_MODELS: expected a list as JSON, or items with commas"),
        ({"log_format": "xml"}, "SWARMGATE_LOG_FORMAT: should be 'json' or 'console'"),
        ({"limits": {"max_generations": 0}}, "SWARMGATE_LIMITS__MAX_GENERATIONS: "),
        ({"drain_s": "nan"}, "SWARMGATE_DRAIN_S: "),
        ({"models": "a,b", "dht_prefix": "p"}, "can be set only when one model is offered"),
        ({"api_keys": ("short",)}, "fewer than 8 characters"),
    ],
)
def test_values_that_do_not_fit_get_a_sentence(given: dict[str, Any], sentence: str) -> None:
    """The sentence names the setting."""
    with pytest.raises(SettingsError, match=sentence):
        load_settings({}, **given)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.example.org"])
def test_public_bind_without_keys_is_refused(host: str) -> None:
    """Everybody could use the swarm otherwise."""
    with pytest.raises(SettingsError, match="would open the gateway to everybody"):
        load_settings({}, host=host)

    assert load_settings({}, host=host, api_keys=("a-long-key",)).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    """Only programs of this machine reach it."""
    assert load_settings({}, host=host).host == host


def test_secrets_do_not_show() -> None:
    """Neither in the settings' text nor in an error."""
    settings = Settings(
        api_keys=(SecretStr("very-secret-key"),), redis_url=SecretStr("redis://:very-secret@h/0")
    )

    assert "very-secret" not in repr(settings)
    with pytest.raises(SettingsError) as raised:
        load_settings({}, api_keys=("very-secret-key",), port=-1)
    assert "very-secret" not in str(raised.value)


def test_every_field_is_described() -> None:
    """The reference page is made of the descriptions."""
    settings = Settings()
    for model in (type(settings), type(settings.limits), type(settings.routing)):
        assert all(field.description for field in model.model_fields.values())


def test_several_workers_need_a_redis() -> None:
    """What one of them knows the others must find."""
    with pytest.raises(SettingsError, match="share streams, conversations and limits"):
        load_settings(workers=2)

    assert load_settings(workers=2, redis_url="redis://127.0.0.1:1").workers == 2


def test_an_object_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested settings may be written as one."""
    _set(monkeypatch, ROUTING="{")

    with pytest.raises(SettingsError, match="SWARMGATE_ROUTING: expected an object as JSON"):
        load_settings({})


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants to start a gateway five times to hear of five mistakes."""
    _set(monkeypatch, PORT="70000", LIMITS__MAX_GENERATIONS="0", ORIGINS="chat.example.org")

    with pytest.raises(SettingsError) as raised:
        load_settings(
            {"SWARMGATE_PROT": "1"}, host="0.0.0.0", workers=2, models="a,b", dht_prefix="p"
        )

    told = [problem.partition(" ")[0].rstrip(":") for problem in raised.value.problems]
    assert told == [
        "SWARMGATE_PROT",
        "SWARMGATE_PORT",
        "SWARMGATE_LIMITS__MAX_GENERATIONS",
        "listening",
        "2",
        "SWARMGATE_DHT_PREFIX",
        "SWARMGATE_ORIGINS",
    ]
    assert str(raised.value).startswith("7 settings do not fit:\n  SWARMGATE_PROT")


def test_setting_that_is_wrong_by_itself_is_not_blamed_twice() -> None:
    """What depends on it cannot be known."""
    with pytest.raises(SettingsError) as raised:
        load_settings({}, host="0.0.0.0", api_keys=5)

    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "SWARMGATE_API_KEYS"
    ]


def test_models_are_checked_as_they_were_found() -> None:
    """Two names of one directory are one model."""
    assert load_settings({}, find_model=str.upper, models="a,b").models == ("A", "B")

    with pytest.raises(SettingsError, match="names A 2 times"):
        load_settings({}, find_model=str.upper, models="a,A")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"origins": "chat.example.org"}, "SWARMGATE_ORIGINS: expected e.g. https"),
        ({"origins": "*"}, "SWARMGATE_ORIGINS"),
        ({"origins": "https://a.example/path"}, "SWARMGATE_ORIGINS"),
        ({"trusted_proxies": "*"}, "SWARMGATE_TRUSTED_PROXIES: expected an address"),
        ({"trusted_proxies": "proxy.example"}, "SWARMGATE_TRUSTED_PROXIES"),
        ({"models": "a/b,a/b"}, "names a/b 2 times"),
        ({"initial_peers": "10.0.0.1:31337"}, "SWARMGATE_INITIAL_PEERS: a multiaddr"),
        ({"redis_url": "localhost:6379"}, "SWARMGATE_REDIS_URL must begin with"),
        ({"tracing": {"endpoint": "collector:4318"}}, "SWARMGATE_TRACING__ENDPOINT"),
    ],
)
def test_texts_with_a_form_are_looked_at(given: dict[str, Any], sentence: str) -> None:
    """Better at start than at the first request."""
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        load_settings({}, **given)


def test_settings_made_in_code_are_checked_as_well() -> None:
    """Whoever builds an app without `load_settings` is told, too."""
    with pytest.raises(ValidationError, match="would open the gateway to everybody"):
        Settings(host="0.0.0.0")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keys": {"required": True}}, "keys are required, but there are none"),
        ({"keys": {"required": False}, "api_keys": ("a-long-key",)}, "but there are keys"),
        ({"keys": {"required": False, "file": "keys.json"}}, "but there are keys"),
        ({"admin_keys": ("short",)}, "SWARMGATE_ADMIN_KEYS has fewer than 8"),
    ],
)
def test_settings_of_keys_that_contradict_each_other_are_refused(
    given: dict[str, Any], message: str
) -> None:
    """Nobody is let in, or kept out, by mistake."""
    with pytest.raises(SettingsError, match=message):
        load_settings({}, **given)


@pytest.mark.parametrize(
    "given",
    [
        {"api_keys": ("a-long-key",)},
        {"keys": {"file": "keys.json"}},
        {"keys": {"required": True}, "redis_url": "redis://localhost/0"},
    ],
)
def test_gateway_that_asks_for_keys_may_be_public(given: dict[str, Any]) -> None:
    """Wherever the keys are."""
    assert load_settings({}, host="0.0.0.0", **given).needs_keys
