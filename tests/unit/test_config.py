from __future__ import annotations

import tomllib
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from server.config import Settings, SettingsError, load, variable


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_defaults_need_nothing():
    settings = load(environ={})
    assert settings == Settings()
    assert settings.max_body_bytes == 2 * 1024 * 1024
    assert settings.max_file_bytes == 10 * 1024 * 1024
    assert settings.rate_limit_per_minute == 0
    assert settings.cors_origins == ()
    assert settings.secret_policy == "refuse"
    assert settings.metrics_open is False


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1


def test_file_is_weaker_than_environment_is_weaker_than_flags():
    Path("gitstore.toml").write_text('host = "file"\nport = 1\ntrash_days = 3\n')
    settings = load({"host": "flag", "port": None}, environ={"GITSTORE_HOST": "env", "GITSTORE_PORT": "2"})
    assert (settings.host, settings.port, settings.trash_days) == ("flag", 2, 3)


def test_every_setting_can_come_from_the_environment():
    texts = {
        "data": "/srv/x",
        "host": "::1",
        "port": "81",
        "admin_key": "abc",
        "secret_key": "def",
        "public_url": "https://git.example.org/",
        "cors_origins": "https://a.example, http://localhost:3000",
        "secret_policy": "allow",
        "verify_allow": "10.0.0.0/8,git.local",
        "log_format": "json",
        "log_level": "debug",
        "git_push_scope": "agent",
        "checkout_mode": "manual",
        "checkout_watch": "false",
        "maintenance": "false",
        "ssh_known_hosts": "/etc/ssh/known hosts",
        "ssh_identity": "/srv/key",
    }
    for each in fields(Settings):
        if each.name not in texts:
            texts[each.name] = "true" if each.type == "bool" else "7000"
    settings = load(environ={variable(name): text for name, text in texts.items()})
    assert settings.data == Path("/srv/x")
    assert settings.public_url == "https://git.example.org"
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.verify_allow == ("10.0.0.0/8", "git.local")
    assert settings.metrics_open is True
    assert settings.verify_timeout == 7000.0
    assert isinstance(settings.verify_timeout, float)
    assert all(getattr(settings, each.name) != each.default for each in fields(Settings))


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"GITSTORE_SSH_IDENTITY": "key"}, "GITSTORE_SSH_IDENTITY: expected an absolute path"),
        ({"GITSTORE_SSH_KNOWN_HOSTS": '/srv/"x"'}, "GITSTORE_SSH_KNOWN_HOSTS: expected an absolute path"),
        ({"GITSTORE_PROT": "80"}, "did you mean `GITSTORE_PORT`"),
        ({"GITSTORE_Port": "80"}, "did you mean `GITSTORE_PORT`"),
        ({"GITSTORE_ZZZZZZ": "80"}, "--print-config"),
        ({"GITSTORE_PORT": "eighty"}, "GITSTORE_PORT: expected a number"),
        ({"GITSTORE_PORT": "70000"}, "at most 65535"),
        ({"GITSTORE_PORT": "-1"}, "at least 0"),
        ({"GITSTORE_VERIFY_TIMEOUT": "nan"}, "at least"),
        ({"GITSTORE_METRICS_OPEN": "maybe"}, "true or false"),
        ({"GITSTORE_SECRET_POLICY": "hide"}, "refuse, allow"),
        ({"GITSTORE_PUBLIC_URL": "git.example.org"}, "http(s)"),
        ({"GITSTORE_PUBLIC_URL": "https://user:pass@git.example.org"}, "without query or password"),
        ({"GITSTORE_CORS_ORIGINS": "https://a.example/path"}, "an origin"),
        ({"GITSTORE_ADMIN_KEY": "two words"}, "without spaces"),
        ({"GITSTORE_CONFIG": "/nonexistent/gitstore.toml"}, "/nonexistent/gitstore.toml"),
    ],
)
def test_a_wrong_variable_is_an_error_that_helps(environ, says):
    with pytest.raises(SettingsError) as caught:
        load(environ=environ)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 80", "did you mean `port`"),
        ('port = "80"', "expected a whole number"),
        ("port = true", "expected a whole number"),
        ("port = 1.5", "expected a whole number"),
        ("metrics_open = 1", "expected true or false"),
        ("host = 7", "expected a text"),
        ('cors_origins = "https://a.example"', "a list of texts"),
        ("port = ", "gitstore.toml"),
        ("max_body_bytes = 1", "at least 1024"),
    ],
)
def test_a_wrong_file_is_an_error_that_helps(text, says):
    Path("gitstore.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(environ={})
    assert says in str(caught.value)


def test_an_error_about_a_secret_does_not_show_it():
    with pytest.raises(SettingsError) as caught:
        load(environ={"GITSTORE_ADMIN_KEY": "hunter2 hunter3"})
    assert "hunter2" not in str(caught.value)


def test_a_secret_of_the_wrong_kind_is_not_shown():
    Path("gitstore.toml").write_text("secret_key = 918273")
    with pytest.raises(SettingsError) as caught:
        load(environ={})
    assert "918273" not in str(caught.value)


def test_other_variables_are_no_business_of_ours():
    assert load(environ={"PATH": "/bin", "gitstore_port": "1"}).port == 8080


def test_an_empty_variable_clears_an_optional_setting():
    Path("gitstore.toml").write_text('public_url = "https://a.example"')
    assert load(environ={"GITSTORE_PUBLIC_URL": ""}).public_url is None


def test_rendering_gives_the_same_settings_and_no_secret(tmp_path):
    settings = load({"cors_origins": ["https://a.example"], "host": 'a"b\\c\n', "admin_key": "hunter2"}, environ={})
    text = settings.render()
    assert "hunter2" not in text
    assert "hunter2" not in repr(settings)
    assert all(variable(each.name) in text for each in fields(Settings))
    assert tomllib.loads(text)["host"] == 'a"b\\c\n'
    (tmp_path / "again.toml").write_text(text)
    again = load({"admin_key": "hunter2"}, environ={}, file=tmp_path / "again.toml")
    assert again == settings


def test_upload_limits_let_the_documented_file_through():
    settings = Settings()
    lines = -(-settings.max_file_bytes // 57)  # 76 characters a line, and a line break that JSON writes as four
    assert settings.upload_bytes > lines * (76 + 4) + 4096
    assert settings.batch_bytes >= settings.upload_bytes * settings.max_batch_files
