"""Tests of the settings: the table, how it is read, and what is refused."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from realtime import state
from realtime.settings import SETTINGS, ConfigError, Settings, load, mask, option, unknown

from .redis_tls import Authority

#: Name, default as text, value of the default: as the issue and the README promise them.
DEFAULTS = {
    "PORT": ("3003", 3003),
    "REALTIME_ENV": ("development", "development"),
    "REALTIME_CONFIG": ("", ""),
    "REDIS_URL": ("", ""),
    "REDIS_PASSWORD": ("", ""),
    "REDIS_DATABASE": ("3", 3),
    "REDIS_CA_FILE": ("", ""),
    "REDIS_COMMAND_TIMEOUT": ("1000", 1.0),
    "WS_PATH": ("/socket.io", "/socket.io"),
    "WS_DIRECT_PATH": ("/ws", "/ws"),
    "WS_TOKEN_COOKIE": ("", ""),
    "WAMP_REALM": ("realtime", "realtime"),
    "WS_CORS_ORIGIN": ("", ()),
    "WS_ALLOWED_ORIGINS": ("", ()),
    "WS_MAX_CONNECTIONS": ("10000", 10000),
    "WS_CONNECTION_TIMEOUT": ("30000", 30.0),
    "WS_PING_TIMEOUT": ("60000", 60.0),
    "WS_PING_INTERVAL": ("25000", 25.0),
    "WS_MAX_MESSAGE_BYTES": ("1000000", 1000000),
    "JWT_SECRET": ("", ""),
    "JWT_REFRESH_SECRET": ("", ""),
    "TOKEN_REFRESH_THRESHOLD": ("300000", 300.0),
    "JWT_SECRET_PREVIOUS": ("", ""),
    "JWT_SECRET_PREVIOUS_UNTIL": ("", 0.0),
    "JWT_JWKS_URL": ("", ""),
    "JWT_JWKS_REFRESH": ("600000", 600.0),
    "JWT_ALGORITHMS": ("", ()),
    "JWT_LEEWAY": ("0", 0.0),
    "AUTH_SERVICE_URL": ("", ""),
    "AUTH_SERVICE_KEY": ("", ""),
    "AUTH_SERVICE_TIMEOUT": ("2000", 2.0),
    "AUTH_SERVICE_CACHE": ("30000", 30.0),
    "AUTH_SERVICE_DOWN": ("refuse", "refuse"),
    "RATE_LIMIT_WINDOW_MS": ("60000", 60.0),
    "RATE_LIMIT_MAX_MESSAGES": ("100", 100),
    "RATE_LIMIT_MAX_CONNECTIONS": ("5", 5),
    "RATE_LIMIT_CONNECTION_POLICY": ("reject", "reject"),
    "RATE_LIMIT_ADDRESS_MESSAGES": ("0", 0),
    "RATE_LIMIT_ADDRESS_HANDSHAKES": ("0", 0),
    "RATE_LIMIT_MAX_REFUSALS": ("1000", 1000),
    "RATE_LIMIT_DRY_RUN": ("false", False),
    "TRUSTED_PROXIES": ("", ()),
    "PROXY_PROTOCOL": ("false", False),
    "TLS_CERTIFICATE": ("", ""),
    "TLS_KEY": ("", ""),
    "TLS_HSTS": ("0", 0.0),
    "MAX_PENDING_LOGINS": ("4096", 4096),
    "MAX_ROOM_MEMBERS": ("1000", 1000),
    "ROOM_MESSAGE_HISTORY": ("100", 100),
    "ROOM_TYPING_TIMEOUT": ("3000", 3.0),
    "PRESENCE_TIMEOUT": ("300000", 300.0),
    "PRESENCE_INTERVAL": ("60000", 60.0),
    "PRESENCE_CLEANUP_INTERVAL": ("300000", 300.0),
    "RECOVERY_WINDOW": ("120000", 120.0),
    "RECOVERY_MAX_MESSAGES": ("5000", 5000),
    "METRICS_PORT": ("9090", 9090),
    "HEALTH_CHECK_PORT": ("8080", 8080),
    "API_PORT": ("8081", 8081),
    "GRPC_PORT": ("50051", 50051),
    "GRPC_BIND_ADDRESS": ("127.0.0.1", "127.0.0.1"),
    "GRPC_ENABLED": ("false", False),
    "GRPC_TLS_CERTIFICATE": ("", ""),
    "GRPC_TLS_KEY": ("", ""),
    "GRPC_TLS_CLIENT_CA": ("", ""),
    "API_KEY": ("", ""),
    "BIND_ADDRESS": ("127.0.0.1", "127.0.0.1"),
    "API_BIND_ADDRESS": ("127.0.0.1", "127.0.0.1"),
    "WORKERS": ("1", 1),
    "REALTIME_STATE": ("./.realtime", "./.realtime"),
    "JWT_AUDIENCE": ("", ""),
    "JWT_ISSUER": ("", ""),
    "CONSOLE": ("true", True),
    "INGEST_SERVICES": ("", ()),
    "WS_MAX_QUEUE_BYTES": ("4194304", 4194304),
    "RECOVERY_MAX_BYTES": ("8388608", 8388608),
    "WS_REQUIRE_ORIGIN": ("false", False),
    "RECEIPT_TIMEOUT": ("120000", 120.0),
    "RECEIPT_TTL": ("3600000", 3600.0),
    "RECEIPT_MAX": ("100000", 100000),
    "RECEIPT_MAX_CONNECTIONS": ("100", 100),
    "WS_QUERY_TOKEN": ("false", False),
    "WS_HANDSHAKE_TIMEOUT": ("5000", 5.0),
    "WS_MESSAGE_TIMEOUT": ("10000", 10.0),
    "WS_BATCH_INTERVAL": ("0", 0.0),
    "WS_COMPRESSION": ("false", False),
    "WS_COMPRESSION_THRESHOLD": ("1024", 1024),
    "NATIVE_SEND": ("true", True),
    "WS_MAX_PENDING_EVENTS": ("64", 64),
    "PRESENCE_GRACE": ("5000", 5.0),
    "TOKEN_EXPIRY_GRACE": ("5000", 5.0),
    "ROOM_HISTORY_TTL": ("86400000", 86400.0),
    "MAX_ROOMS_PER_CONNECTION": ("100", 100),
    "QUEUE_TTL": ("300000", 300.0),
    "QUEUE_MAX_WAITING": ("100000", 100_000),
    "QUEUE_MAX_PER_USER": ("10", 10),
    "QUEUE_MAX_EVENTS": ("10000", 10_000),
    "QUEUE_STREAM": ("false", False),
    "QUEUE_STREAM_LENGTH": ("100000", 100_000),
    "MAX_CHANNELS": ("100000", 100000),
    "MAX_LOG_BYTES": ("268435456", 268435456),
    "MAX_MEMORY_BYTES": ("0", 0),
    "HEALTH_MAX_LAG": ("5000", 5.0),
    "LOG_FORMAT": ("auto", "auto"),
    "LOG_MESSAGES": ("0", 0),
    "LOG_PAYLOADS": ("false", False),
    "LOG_SLOW": ("500", 0.5),
    "DRAIN_SETTLE": ("0", 0.0),
    "DRAIN_RATE": ("1000", 1000),
    "DRAIN_TIMEOUT": ("10000", 10.0),
}

SECRET = "0123456789abcdef0123456789abcdef"

#: What production needs.
PRODUCTION = {
    "REALTIME_ENV": "production",
    "JWT_SECRET": SECRET,
    "API_KEY": "0123456789abcdef",
    "WS_ALLOWED_ORIGINS": "https://example.com",
}


class SettingsCase(SynchronousTestCase):
    """Reads settings with a state file of the test's own."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.state = str(folder / "state")

    def load(self, options: Mapping[str, str | None] | None = None, **environ: str) -> Settings:
        return load({"REALTIME_STATE": self.state, **environ}, options)

    def faults(self, options: Mapping[str, str | None] | None = None, **environ: str) -> tuple[str, ...]:
        return self.assertRaises(ConfigError, self.load, options, **environ).faults

    def fault(self, options: Mapping[str, str | None] | None = None, **environ: str) -> str:
        faults = self.faults(options, **environ)
        self.assertEqual(len(faults), 1, faults)
        return faults[0]


class TableTests(SettingsCase):
    """The table is what was promised."""

    def test_names_and_defaults(self) -> None:
        """Every setting has the promised name, default and value."""
        self.assertEqual(
            {name: setting.default for name, setting in SETTINGS.items()},
            {n: d for n, (d, _) in DEFAULTS.items()},
        )
        settings = Settings()
        for name, (_, value) in DEFAULTS.items():
            found = getattr(settings, name.lower())
            self.assertEqual((name, found, type(found)), (name, value, type(value)))

    def test_every_attribute_is_a_setting(self) -> None:
        self.assertEqual([field.name.upper() for field in dataclasses.fields(Settings)], list(SETTINGS))

    def test_help(self) -> None:
        """Each has a meaning, as a sentence, and says what it accepts."""
        for name, setting in SETTINGS.items():
            self.assertRegex(setting.help, r"\A[A-Z/].*\.\Z", name)
            self.assertTrue(setting.kind.accepted, name)

    def test_secrets(self) -> None:
        """What must not be shown is neither in the settings' text form nor in `Setting.shown`."""
        secrets = {name for name, setting in SETTINGS.items() if setting.secret}
        self.assertEqual(
            secrets,
            {
                *("JWT_SECRET", "JWT_SECRET_PREVIOUS", "JWT_REFRESH_SECRET", "API_KEY"),
                *("AUTH_SERVICE_KEY", "REDIS_URL", "REDIS_PASSWORD"),
            },
        )
        settings = Settings(**{name.lower(): SECRET for name in secrets})  # type: ignore[arg-type]
        self.assertNotIn(SECRET, repr(settings))
        for name in secrets:
            self.assertNotIn(SECRET, SETTINGS[name].shown(SECRET))

    def test_frozen(self) -> None:
        with self.assertRaises(dataclasses.FrozenInstanceError):
            Settings().port = 1  # type: ignore[misc]

    def test_option_names(self) -> None:
        self.assertEqual(option("RATE_LIMIT_WINDOW_MS"), "rate-limit-window-ms")

    def test_mask(self) -> None:
        self.assertEqual((mask("geheim"), mask("é"), mask("")), ("*** (6 bytes)", "*** (2 bytes)", ""))


class LoadTests(SettingsCase):
    """Values come from the command line, else the environment, else the table."""

    def test_development(self) -> None:
        """An empty environment is development, for this machine only, with secrets of its own."""
        settings = self.load()
        self.assertFalse(settings.production)
        self.assertEqual(settings.bind_address, "127.0.0.1")
        self.assertEqual(settings.api_bind_address, "127.0.0.1")
        made = state.read(self.state)
        assert made is not None
        self.assertEqual(settings.jwt_secret, made["JWT_SECRET"])
        self.assertEqual(settings.jwt_refresh_secret, made["JWT_REFRESH_SECRET"])
        self.assertEqual(settings.api_key, made["API_KEY"])
        self.assertEqual(self.load(), settings)

    def test_every_setting_from_the_environment(self) -> None:
        """A value that is not the default reaches its attribute."""
        given = {
            name: setting.kind.show(_other(getattr(Settings(), name.lower())))
            for name, setting in SETTINGS.items()
            if isinstance(getattr(Settings(), name.lower()), int | float)
        }
        settings = self.load(**given, TRUSTED_PROXIES="10.0.0.0/8", REDIS_URL="redis://r")
        for name, text in given.items():
            value = getattr(settings, name.lower())
            self.assertNotEqual(value, getattr(Settings(), name.lower()), name)
            self.assertEqual(SETTINGS[name].kind.show(value), text)

    def test_every_setting_as_option(self) -> None:
        """The option has the same meaning, and wins."""
        given = {
            name: setting.kind.show(_other(getattr(Settings(), name.lower())))
            for name, setting in SETTINGS.items()
            if isinstance(getattr(Settings(), name.lower()), int | float)
        }
        options: dict[str, str | None] = {option(name): text for name, text in given.items()}
        more = {"TRUSTED_PROXIES": "10.0.0.0/8", "REDIS_URL": "redis://r"}
        found = self.load(options, **dict.fromkeys(given, "wrong"), **more)
        self.assertEqual(found, self.load(**given, **more))

    def test_texts_and_lists(self) -> None:
        settings = self.load(
            WS_PATH=" /live/ ",
            BIND_ADDRESS="0.0.0.0",
            API_BIND_ADDRESS="localhost",
            WS_CORS_ORIGIN="https://a.example",
            WS_ALLOWED_ORIGINS="https://b.example, https://a.example",
            JWT_SECRET=SECRET + " ",
            JWT_REFRESH_SECRET=SECRET,
            JWT_AUDIENCE="https://example.com/live",
            JWT_ISSUER="login",
            API_KEY="k",
            INGEST_SERVICES="seating,loyalty-points",
        )
        self.assertEqual(settings.ws_path, "/live")
        self.assertEqual(settings.bind_address, "0.0.0.0")
        self.assertEqual(settings.api_bind_address, "127.0.0.1")
        self.assertEqual(settings.ws_cors_origin, ("https://a.example",))
        self.assertEqual(settings.origins, ("https://b.example", "https://a.example"))
        self.assertEqual(settings.jwt_secret, SECRET + " ")
        self.assertEqual(settings.jwt_refresh_secret, SECRET)
        self.assertEqual(
            (settings.jwt_audience, settings.jwt_issuer), ("https://example.com/live", "login")
        )
        self.assertEqual(settings.api_key, "k")
        self.assertEqual(settings.ingest_services, ("seating", "loyalty-points"))

    def test_empty_is_not_set(self) -> None:
        """Also for what has a default, and for an option."""
        self.assertEqual(self.load({"port": ""}, PORT="5", WS_PATH="", MAX_CHANNELS=" ").port, 3003)

    def test_loopback_origins(self) -> None:
        """Development allows the pages of this machine, unless any origin is configured."""
        origins = self.load().origins
        for origin in ("http://localhost:*", "https://127.0.0.1:*", "http://[::1]:*"):
            self.assertIn(origin, origins)
        self.assertEqual(len(origins), 6)
        self.assertEqual(self.load(WS_CORS_ORIGIN="https://a.example").origins, ("https://a.example",))
        self.assertEqual(self.load(WS_ALLOWED_ORIGINS="https://a.example").origins, ("https://a.example",))

    def test_production(self) -> None:
        """Clients on all addresses, the rest on this machine; no file is read or made."""
        settings = self.load(**PRODUCTION)
        self.assertTrue(settings.production)
        self.assertEqual((settings.bind_address, settings.api_bind_address), ("0.0.0.0", "127.0.0.1"))
        self.assertEqual(settings.origins, ("https://example.com",))
        self.assertEqual(settings.jwt_refresh_secret, "")
        self.assertFalse(os.path.exists(self.state))
        self.assertEqual(self.load(**PRODUCTION, BIND_ADDRESS="10.0.0.1").bind_address, "10.0.0.1")

    def test_node_env(self) -> None:
        """NODE_ENV is read where REALTIME_ENV is not set."""
        given = {**PRODUCTION, "REALTIME_ENV": "", "NODE_ENV": "production"}
        self.assertTrue(self.load(**given).production)
        self.assertFalse(self.load(REALTIME_ENV="development", NODE_ENV="production").production)
        self.assertFalse(self.load({"realtime-env": "development"}, NODE_ENV="production").production)
        self.assertFalse(self.load(REALTIME_ENV="development", NODE_ENV="test").production)
        self.assertEqual(
            self.fault(NODE_ENV="staging"), "NODE_ENV='staging': accepted is development or production"
        )


class StateFileTests(SettingsCase):
    """Development takes what is not set from the state file."""

    def test_environment_wins(self) -> None:
        self.load()
        made = state.read(self.state)
        assert made is not None
        settings = self.load(JWT_SECRET=SECRET)
        self.assertEqual((settings.jwt_secret, settings.api_key), (SECRET, made["API_KEY"]))

    def test_not_needed(self) -> None:
        """With all secrets set no file is made, and a broken one does not matter."""
        given = {"JWT_SECRET": SECRET, "JWT_REFRESH_SECRET": SECRET[::-1], "API_KEY": "k"}
        self.load(**given)
        self.assertFalse(os.path.exists(self.state))
        Path(self.state).write_text("broken")
        self.load(**given)

    def test_not_made_on_faults(self) -> None:
        """A start that fails leaves nothing behind."""
        self.faults(PORT="x")
        self.assertFalse(os.path.exists(self.state))

    def test_not_made_when_told(self) -> None:
        """Then what it would hold is empty."""
        settings = load({"REALTIME_STATE": self.state}, make_state=False)
        self.assertEqual((settings.jwt_secret, settings.api_key), ("", ""))
        self.assertFalse(os.path.exists(self.state))

    def test_unusable(self) -> None:
        """It is told along with all else."""
        Path(self.state).write_text("{}")
        os.chmod(self.state, 0o644)
        first, second = self.faults(PORT="x")
        self.assertTrue(first.startswith("PORT="))
        self.assertTrue(second.startswith(f"REALTIME_STATE={self.state!a}: others may read"), second)


class FaultTests(SettingsCase):
    """What is wrong is told: variable, value, what is accepted; all at once, secrets masked."""

    def test_one_line(self) -> None:
        self.assertEqual(
            self.fault(PORT="80800"), "PORT='80800': accepted is a whole number from 0 to 65535"
        )

    def test_option(self) -> None:
        """A fault of an option names the option."""
        self.assertEqual(
            self.fault({"ws-query-token": "maybe"}, WS_QUERY_TOKEN="true"),
            "--ws-query-token='maybe': accepted is true or false",
        )

    def test_all_at_once(self) -> None:
        """One line each, in the table's order; the error's text is these lines."""
        error = self.assertRaises(ConfigError, self.load, WS_PATH="x", PORT="-1", MAX_CHANNELS="0")
        self.assertEqual(
            [line.partition("=")[0] for line in error.faults], ["PORT", "WS_PATH", "MAX_CHANNELS"]
        )
        self.assertEqual(str(error), "\n".join(error.faults))

    def test_rotation(self) -> None:
        """The secret before needs its end, and is no refresh secret."""
        fault = self.fault(JWT_SECRET_PREVIOUS=SECRET)
        self.assertTrue(fault.startswith("JWT_SECRET_PREVIOUS=*** (32 bytes): "), fault)
        until = {"JWT_SECRET_PREVIOUS": SECRET, "JWT_SECRET_PREVIOUS_UNTIL": "2030-01-31T12:00:00+01:00"}
        self.assertEqual(self.load(**until).jwt_secret_previous_until, 1896087600.0)
        self.assertIn("JWT_REFRESH_SECRET", self.fault(**until, JWT_REFRESH_SECRET=SECRET))

    def test_urls(self) -> None:
        """Keys and answers come over https, or from this machine."""
        for url in ("https://login.example.com/keys?a=b", "http://127.0.0.1:8000/", "http://[::1]/x"):
            self.assertEqual(self.load(JWT_JWKS_URL=url).jwt_jwks_url, url)
        for url in (
            "http://login.example.com/keys",
            "http://10.0.0.1/keys",
            "ftp://127.0.0.1/",
            "https://user:secret@example.com/",
            "https://",
            "https://example.com/#x",
            "http://127.0.0.1.example.com/",
            "https://exa mple.com/",
            "file:///etc/passwd",
        ):
            self.assertIn("accepted is an https:// URL", self.fault(JWT_JWKS_URL=url))

    def test_public_keys_take_the_place_of_the_secret(self) -> None:
        """Production starts with JWT_JWKS_URL alone."""
        production = {name: value for name, value in PRODUCTION.items() if name != "JWT_SECRET"}
        self.assertEqual(self.load(**production, JWT_JWKS_URL="https://a.example/keys").jwt_secret, "")

    def test_proxies(self) -> None:
        """Proxies are addresses and networks; the PROXY protocol is theirs only."""
        proxies = self.load(TRUSTED_PROXIES="10.0.0.0/8, 192.0.2.1,2001:db8::/32").trusted_proxies
        self.assertEqual(proxies, ("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"))
        for wrong in ("10.0.0.1/8", "proxy.example.com", "10.0.0.0/33", "*"):
            self.assertIn("a network such as 10.0.0.0/8", self.fault(TRUSTED_PROXIES=wrong))
        self.assertIn("TRUSTED_PROXIES", self.fault(PROXY_PROTOCOL="true"))

    def test_grpc(self) -> None:
        """The gRPC API is on where it is asked for, or where its port is said."""
        self.assertFalse(self.load().grpc_enabled)
        self.assertTrue(self.load(GRPC_ENABLED="true").grpc_enabled)
        self.assertTrue(self.load(GRPC_PORT="50052").grpc_enabled)
        self.assertFalse(self.load(GRPC_PORT="50052", GRPC_ENABLED="false").grpc_enabled)
        self.assertIn("GRPC_PORT is the same", self.fault(API_PORT="50051", GRPC_ENABLED="true"))
        self.assertEqual(self.load(API_PORT="50051").api_port, 50051)
        self.assertIn("can be read", self.faults(GRPC_TLS_CERTIFICATE="/none", GRPC_TLS_KEY="/none")[0])
        self.assertIn("go together", self.faults(GRPC_TLS_KEY="/none")[0])
        self.assertIn("of no use", self.faults(GRPC_TLS_CLIENT_CA="/none")[0])

    def test_tls(self) -> None:
        """A certificate needs its key; the PROXY protocol is not taken before TLS."""
        self.assertIn("go together", self.fault(TLS_CERTIFICATE="a"))
        self.assertIn("go together", self.fault(TLS_KEY="a"))
        both = {"TLS_CERTIFICATE": "a", "TLS_KEY": "b", "TRUSTED_PROXIES": "10.0.0.0/8"}
        self.assertIn("before TLS", self.fault(**both, PROXY_PROTOCOL="true"))

    def test_auth_service(self) -> None:
        """A key for an Auth Service that is not asked is a mistake."""
        self.assertIn("AUTH_SERVICE_URL", self.fault(AUTH_SERVICE_KEY="k"))

    def test_every_setting_refuses(self) -> None:
        """Nothing is taken unread: each setting has a text that it refuses."""
        for name in SETTINGS:
            refused = {"REDIS_URL": "localhost", "REDIS_PASSWORD": "p"}.get(name, "\x07 ")
            label = re.escape(name) + "="
            if name in ("JWT_SECRET", "JWT_REFRESH_SECRET"):
                refused = SECRET[1:]
            self.assertRegex(self.fault(**{name: refused}), rf"\A{label}.*accepted is ", name)

    def test_value_is_tamed(self) -> None:
        """A value can't break the line or fill the screen."""
        fault = self.fault(WS_PATH="a\nb\x1b[31m\u2028é" + "x" * 1000)
        self.assertEqual(fault, ascii(fault)[1:-1].replace("\\\\", "\\").replace("\\'", "'"))
        self.assertTrue(fault.isprintable())
        self.assertLess(len(fault), 300)

    def test_not_utf8(self) -> None:
        """A byte that is no UTF-8 is told, in a secret too."""
        self.assertIn("JWT_SECRET=***", self.fault(JWT_SECRET=SECRET + "\udcff"))

    def test_secrets_are_masked(self) -> None:
        short = "geheim"
        for environ in (
            {"JWT_SECRET": short},
            {"JWT_REFRESH_SECRET": short},
            {"REDIS_URL": f"redis://:{short}@localhost/1"},
            {"REDIS_PASSWORD": short},
            {"API_KEY": short + " "},
            {**PRODUCTION, "API_KEY": short},
        ):
            text = "\n".join(self.faults(**environ))
            self.assertNotIn(short, text)
            self.assertRegex(text, r"=\*\*\* \(\d+ bytes\): ")

    def test_production_needs(self) -> None:
        """All that is missing is told at once."""
        faults = self.faults(REALTIME_ENV="production")
        self.assertEqual(
            [line.split()[0] for line in faults], ["JWT_SECRET", "API_KEY", "WS_ALLOWED_ORIGINS"]
        )
        for line in faults:
            self.assertIn("is not set: production needs it; accepted is ", line)

    def test_production_needs_each(self) -> None:
        for name in ("JWT_SECRET", "API_KEY", "WS_ALLOWED_ORIGINS"):
            self.assertTrue(self.fault(**{**PRODUCTION, name: ""}).startswith(f"{name} is not set"))

    def test_production_lengths(self) -> None:
        """A secret of 31 bytes, and a key of 15, do not do."""
        self.assertIn("at least 32 bytes", self.fault(**{**PRODUCTION, "JWT_SECRET": SECRET[1:]}))
        self.assertIn("at least 16 bytes", self.fault(**{**PRODUCTION, "API_KEY": SECRET[:15]}))

    def test_cors_origin_is_not_enough(self) -> None:
        given = {**PRODUCTION, "WS_ALLOWED_ORIGINS": "", "WS_CORS_ORIGIN": "https://example.com"}
        self.assertTrue(self.fault(**given).startswith("WS_ALLOWED_ORIGINS is not set"))

    def test_refused_is_not_missing(self) -> None:
        """A wrong value is told once."""
        self.assertTrue(
            self.fault(**{**PRODUCTION, "WS_ALLOWED_ORIGINS": "*"}).startswith("WS_ALLOWED_ORIGINS='*'")
        )

    def test_redis(self) -> None:
        """What REDIS_URL names, with REDIS_PASSWORD, is read; what is of no use is refused."""
        for url in ("redis://redis-service:6379", "redis+sentinel://a,b/main", "redis+cluster://a,b"):
            self.assertEqual(self.load(REDIS_URL=url).redis_url, url)
        self.load(REDIS_URL="redis://alice:@h", REDIS_PASSWORD="p")
        self.assertIn("without a password", self.fault(REDIS_URL="redis://alice:@h"))
        self.assertIn("has only database 0", self.fault(REDIS_URL="redis+cluster://h/3"))
        self.assertIn("without REDIS_URL", self.fault(REDIS_PASSWORD="p"))
        self.assertIn("from 0 to 15", self.fault(REDIS_DATABASE="16"))

    def test_redis_authorities(self) -> None:
        """REDIS_CA_FILE is looked at, where it is of use."""
        directory = Path(self.mktemp())
        authority = Authority(directory)
        good, bad = str(authority.certificate), directory / "bad.pem"
        bad.write_text("junk")
        self.assertEqual(self.load(REDIS_URL="rediss://h", REDIS_CA_FILE=good).redis_ca_file, good)
        for path in (str(bad), str(directory), "/no/such/file"):
            self.assertIn("PEM form", self.fault(REDIS_URL="rediss://h", REDIS_CA_FILE=path))
        for environ in ({}, {"REDIS_URL": "redis://h"}):
            self.assertIn("of no use", self.fault(REDIS_CA_FILE=good, **environ))

    def test_same_port(self) -> None:
        """Two listeners can't share a port, unless it is any or the addresses differ."""
        self.assertEqual(
            self.fault(METRICS_PORT="8081"),
            "METRICS_PORT=8081: API_PORT is the same; accepted is a port of its own",
        )
        self.assertIn("PORT is the same", self.fault(API_PORT="3003"))
        self.assertIn("PORT is the same", self.fault(API_PORT="3003", BIND_ADDRESS="0.0.0.0"))
        self.load(API_PORT="3003", BIND_ADDRESS="127.0.0.2")
        self.load(API_PORT="0", METRICS_PORT="0")

    def test_same_secret(self) -> None:
        """One secret for both kinds of token would make each kind good for the other."""
        secret = "a secret of at least thirty-two bytes"
        self.assertEqual(
            self.fault(JWT_SECRET=secret, JWT_REFRESH_SECRET=secret),
            f"JWT_REFRESH_SECRET=*** ({len(secret)} bytes): JWT_SECRET is the same;"
            " accepted is a secret of its own",
        )
        self.load(JWT_SECRET=secret, JWT_REFRESH_SECRET=secret + "!")

    def test_services(self) -> None:
        """The first part of another kind of channel is no service's name."""
        for name in ("event", "room", "user", "role", "Seating", "a:b", "9lives", "x" * 33):
            self.assertIn("INGEST_SERVICES", self.fault(INGEST_SERVICES=f"seating,{name}"))


class UnknownTests(SynchronousTestCase):
    """Variables that look like settings and are none are told, with the name that was meant."""

    def told(self, *names: str) -> list[str]:
        return unknown(dict.fromkeys(names, "a secret value"))

    def test_near(self) -> None:
        for name, meant in (
            ("WS_PINGTIMEOUT", "WS_PING_TIMEOUT"),
            ("RATE_LIMIT_MAX_MESSAGE", "RATE_LIMIT_MAX_MESSAGES"),
            ("JWT_SECERT", "JWT_SECRET"),
            ("MAX_ROOM_MEMBER", "MAX_ROOM_MEMBERS"),
            ("API_KEYS", "API_KEY"),
            ("TOKEN_REFRESH_TRESHOLD", "TOKEN_REFRESH_THRESHOLD"),
        ):
            self.assertEqual(self.told(name), [f"{name} is not a setting; did you mean {meant}?"])

    def test_far(self) -> None:
        """With a prefix of our own it is told even so."""
        self.assertEqual(self.told("WS_QQQ"), ["WS_QQQ is not a setting; `realtime settings` lists all"])

    def test_not_ours(self) -> None:
        """Other programs' variables, other prefixes, what Kubernetes sets, and settings are not told."""
        self.assertEqual(
            self.told(
                *("API_GATEWAY_HOST", "MAX_MEMORY", "ROOM_SERVICE", "TOKEN_BUCKET", "PATH", "HOME"),
                *("REDIS_SERVICE_HOST", "REDIS_SERVICE_PORT", "REALTIME_PORT_3003_TCP_ADDR"),
                *SETTINGS,
            ),
            [],
        )

    def test_all(self) -> None:
        """Each has its line, in order, without its value."""
        told = self.told("WS_B", "REDIS_URI", "WS_A")
        self.assertEqual([line.split()[0] for line in told], ["REDIS_URI", "WS_A", "WS_B"])
        self.assertNotIn("a secret value", "\n".join(told))


def _other(value: float) -> float:
    """Another value that a setting with this default accepts."""
    return (not value) if isinstance(value, bool) else value + 1
