"""All configuration. Only this file reads the environment; docs/configuration.md explains each variable.

Variables may also stand in ``$NAVEMBED_HOME/navembed.env``; the process environment wins.
"""

import os
import secrets
from contextlib import suppress
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import quote

from csp.constants import NONE, SELF

from embeddings.encoders.registry import ENCODERS
from navembed_site import VERSION, environment
from navembed_site.console import menu
from navembed_site.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent


def _secret_key(path: Path) -> str:
    """Read the instance's secret key; the first start makes it, readable by its owner alone."""
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError), os.fdopen(os.open(path, new, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(50))
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        env.problems.append(f"NAVEMBED_HOME is {str(path.parent)!r}, which cannot be used: {error.strerror}.")
        return secrets.token_urlsafe(50)


# The instance: everything that it keeps lies here.
NAVEMBED_HOME = Path(os.environ.get("NAVEMBED_HOME") or BASE_DIR / "var").expanduser().absolute()
env = Environment(dict(os.environ))
env.add_file(NAVEMBED_HOME / "navembed.env")
ENVIRONMENT_PROBLEMS = env.problems  # reported by embeddings.checks
STUBS_REQUESTED = env.boolean("TEXT_EMBEDDING_USE_STUBS")
LOG_DIR = env.folder("LOG_DIR", NAVEMBED_HOME / "logs")
PID_DIR = env.folder("PID_DIR", NAVEMBED_HOME / "run")
CACHE_DIR = NAVEMBED_HOME / "cache"
EMBEDDER_SOCKET = NAVEMBED_HOME / "embedder.sock"  # of the first device; see embeddings.embedder.client

# The library of music.
LIBRARY = env.choice("NAVEMBED_LIBRARY", ("navidrome", "subsonic", "folder"), "navidrome")
NAVIDROME_DB_PATH = env.path("NAVIDROME_DB_PATH")
NAVIDROME_MUSIC_ROOT = env.path("NAVIDROME_MUSIC_ROOT")
LIBRARY_PATH_MAP = env.path_map("NAVEMBED_PATH_MAP")
KEEP_MISSING_DAYS = env.number("NAVEMBED_KEEP_MISSING_DAYS", 30, low=0, high=10**4)

# A server that speaks the Subsonic API: for playlists, and as a library.
SUBSONIC_URL = env.parsed("NAVEMBED_SUBSONIC_URL", "", environment.web_address, "an address with http:// or https://")
SUBSONIC_USER = env.string("NAVEMBED_SUBSONIC_USER")
SUBSONIC_PASSWORD = env.string("NAVEMBED_SUBSONIC_PASSWORD")

# Models and the device.
MODEL_SOURCES = {
    encoder.key: env.string(f"NAVEMBED_{encoder.key.upper()}", encoder.default_source) for encoder in ENCODERS
}
DEVICES = env.strings("TEXT_EMBEDDING_DEVICE", ("auto",))
CHECKPOINT_DIR = env.folder("TEXT_EMBEDDING_CHECKPOINT_DIR", NAVEMBED_HOME / "checkpoints")
MODEL_IDLE_SECONDS = env.number("NAVEMBED_MODEL_IDLE_SECONDS", 360, low=1, high=10**7)
DEVICE_MEMORY_GB = env.number("NAVEMBED_DEVICE_MEMORY_GB", 0, low=0, high=10**5)  # 0: what the device has free
DECODE_PROCESSES = env.integer("NAVEMBED_DECODE_PROCESSES", os.cpu_count() or 1, low=1, high=256)
MIN_DECODED = env.number("NAVEMBED_MIN_DECODED", 0.8, low=0, high=1)
MAX_HOURS = env.number("NAVEMBED_MAX_HOURS", 24, low=0.01, high=10**4)

# The search index: any Milvus, or our own Lite server on a unix socket.
MILVUS_LITE_FOLDER = NAVEMBED_HOME / "milvus.db"
MILVUS_LITE_SOCKET = NAVEMBED_HOME / "milvus.sock"
MILVUS_URI = env.string("NAVIDROME_MILVUS_URI")
MILVUS_TOKEN = env.string("NAVEMBED_MILVUS_TOKEN")
KEEP_SPACES_DAYS = env.number("NAVEMBED_KEEP_SPACES_DAYS", 7, low=0, high=10**4)

# Jobs that start by themselves, and telling of a job's end.
SCHEDULE = env.parsed("NAVEMBED_SCHEDULE", "off", environment.schedule, "off, scan or a time of day like 03:00")
QUIET_HOURS = env.parsed("NAVEMBED_QUIET_HOURS", "", environment.hours, "two times of day like 22:00-07:00")
WEBHOOK_URL = env.parsed("NAVEMBED_WEBHOOK_URL", "", environment.web_address, "an address with http:// or https://")
WEBHOOK_SECRET = env.parsed(
    "NAVEMBED_WEBHOOK_SECRET", "", environment.webhook_key, "any words, or whsec_ and a key in base64"
)

# Uploads.
UPLOAD_SOCKET = env.parsed(
    "NAVEMBED_UPLOAD_SOCKET",
    "/tmp/navidrome_embed.sock",  # noqa: S108  (a constant in Navidrome's server)
    environment.unix_socket,
    "the absolute path of a socket, of at most 100 bytes, or off",
)
UPLOAD_MODELS = env.choices("NAVEMBED_UPLOAD_MODELS", tuple(MODEL_SOURCES), ("muq",))
SPLIT_FOLDERS = env.boolean("NAVEMBED_SPLIT_FOLDERS")
UPLOAD_WAIT_SECONDS = env.number("NAVEMBED_UPLOAD_WAIT_SECONDS", 600, low=0, high=86_400)
LLM_HOSTS = frozenset(
    host.lower() for host in env.strings("NAVEMBED_LLM_HOSTS", ("localhost", "127.0.0.1", "::1", "api.openai.com"))
)
LLM_KEY = env.string("NAVIDROME_OPENAI_API_KEY") or env.string("OPENAI_API_KEY")
LLM_MODEL = env.string("NAVEMBED_LLM_MODEL", "gpt-5-mini")

# HTTP.
BIND = env.string("NAVEMBED_BIND", "127.0.0.1")
PORT = env.integer("NAVIDROME_RECOMMENDER_PORT", 9002, low=1, high=65535)
TEXT_PORT = env.integer("TEXT_EMBEDDING_PORT", 9003, low=1, high=65535)
LOCAL_HOSTS = ["localhost"]
OUR_HOSTS = [*LOCAL_HOSTS, BIND, *env.strings("NAVEMBED_ALLOWED_HOSTS")]
ALLOWED_HOSTS = ["*"]  # judged by navembed_site.access.hosts, for which every address is ours, too
TRUSTED_NETWORKS = env.parsed(
    "NAVEMBED_TRUSTED_NETWORKS",
    "127.0.0.0/8, ::1/128",
    environment.networks,
    "networks like 127.0.0.0/8, 172.18.0.0/16 separated by commas, or none",
)
RATE_LIMIT = env.integer("NAVEMBED_RATE_LIMIT", 60, low=0, high=10**6)
HTTPS = env.boolean("NAVEMBED_HTTPS")
CSRF_TRUSTED_ORIGINS = [
    origin if "://" in origin else f"https://{origin}" for origin in env.strings("NAVEMBED_TRUSTED_ORIGINS")
]
CONTRACT_BODY_BYTES = DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 2**20  # a text vector of MERT's is 1.7 MB of JSON
BODY_BYTES = 2**20
AUDIO_BODY_BYTES = env.integer("NAVEMBED_MAX_UPLOAD_MB", 200, low=1, high=10**4) * 2**20
FILE_UPLOAD_HANDLERS = ["navembed_site.http.uploads.UploadHandler"]  # to files of mode 0600, never in memory
DATA_UPLOAD_MAX_NUMBER_FILES = 2  # music and its CUE sheet
FILE_UPLOAD_TEMP_DIR = NAVEMBED_HOME  # the embedder must be able to read it

# Django.
SECRET_KEY = _secret_key(NAVEMBED_HOME / "secret_key")
DEBUG = False
ROOT_URLCONF = "navembed_site.urls"
WSGI_APPLICATION = "navembed_site.wsgi.application"
APPEND_SLASH = False  # a redirect would turn the Go server's POST into a GET
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "navembed_site.access",  # before auth: its createsuperuser counts
    "unfold",  # before admin, whose site and templates it replaces
    "django.contrib.admin.apps.SimpleAdminConfig",  # urls.py finds the pages: commands start without them
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_q",
    "axes",
    "csp",
    "embeddings",
    "batches",
    "navembed_site.instance",
    "navembed_site.console",
    "navembed_site.benchmarks",
    "navembed_site.demo",
]
MIDDLEWARE = [
    "navembed_site.access.middleware.OurHosts",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "navembed_site.console.policy.ConsolePolicy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "navembed_site.access.middleware.BodyLimit",
    "navembed_site.access.signin.SignInRate",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "navembed_site.console.policy.NoNul",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "navembed_site.database.health.for_console",
            ]
        },
    }
]
LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = env.time_zone()
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True  # no collectstatic step on a home server
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]

# Guesses at passwords: per name and address, because behind a proxy everybody comes from one address.
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # else a stranger could lock somebody out for good
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_CALLABLE = "navembed_site.access.signin.name_of"
AXES_LOCKOUT_CALLABLE = "navembed_site.access.signin.locked_out"
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# What browsers are told. No page has scripts or styles of others', or may be shown inside of theirs.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
UNFOLD = menu.UNFOLD
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
HTTPS_SETTINGS = {
    "SESSION_COOKIE_SECURE": True,
    "CSRF_COOKIE_SECURE": True,
    "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
    "SECURE_HSTS_SECONDS": 365 * 86_400,
    "SECURE_SSL_REDIRECT": True,
    "SECURE_REDIRECT_EXEMPT": [r"^(?!admin|setup/|api/docs)"],  # a redirect would turn a program's POST into a GET
    "SILENCED_SYSTEM_CHECKS": ["security.W005", "security.W021"],  # other machines of the domain are not ours to bind
}
if HTTPS:
    globals().update(HTTPS_SETTINGS)

# Database: one SQLite file, or PostgreSQL by DATABASE_URL.
DATABASES: dict[str, Any] = {
    "default": env.parsed(
        "DATABASE_URL",
        f"sqlite:///{quote(str(NAVEMBED_HOME / 'navembed.sqlite3'))}",
        environment.database,
        environment.DATABASE_WANTED,
    )
}

# Background jobs. Messages only wake devices up (batches/engine/leases.py); the database holds the truth.
_CLUSTER = {
    "orm": "default",
    "bulk": 1,
    "queue_limit": 1,
    "poll": 0.5,
    "guard_cycle": 1,
    "ack_failures": True,
    "save_limit": 200,
    "catch_up": False,
}
Q_CLUSTER = {
    **_CLUSTER,
    "name": "jobs",  # and the key of the host: only its own worker reaches its devices
    "workers": len(DEVICES),
    "timeout": -1,  # none: a track may take many minutes; hangs are judged by missing progress
    "retry": 10**7,  # a message is never delivered again: the watchdog sends a new one
    "scheduler": False,
    "ALT_CLUSTERS": {
        "light": {**_CLUSTER, "workers": 1, "timeout": 240, "retry": 300, "max_attempts": 1, "scheduler": True}
    },
}

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["navembed_site.http.parsers.StrictJSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "navembed_site.access.authentication.BearerToken",
        "navembed_site.access.authentication.TrustedProgram",
        "navembed_site.access.authentication.StaffSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["navembed_site.access.permissions.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": [
        "navembed_site.access.throttles.PerCaller",
        "navembed_site.access.throttles.PerAddress",
    ],
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS is 405: the OpenAPI document says more
    "UNAUTHENTICATED_USER": None,
    "EXCEPTION_HANDLER": "navembed_site.http.problems.handle",
    "DEFAULT_SCHEMA_CLASS": "navembed_site.http.openapi.Schema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "navembed",
    "DESCRIPTION": "Jobs that embed a music library, and search by sound.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_PUBLIC": True,
    "SERVE_PERMISSIONS": ["navembed_site.access.permissions.HasScope"],
    "SERVE_INCLUDE_SCHEMA": False,
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer", "description": "Made by `create_token` or in the console."},
            "session": {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": "Of the console."},
        }
    },
    "ENUM_NAME_OVERRIDES": {"ModelEnum": [encoder.key for encoder in ENCODERS]},
    "SWAGGER_UI_DIST": "SIDECAR",
}

IS_TALKATIVE = env.boolean("NAVIDROME_RECOMMENDER_DEBUG")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "DEBUG" if IS_TALKATIVE else "INFO"},
    "loggers": {
        "waitress.queue": {"level": "ERROR"},  # a line for every request that waits
        "httpx": {"level": "WARNING"},  # a line for every request, with its address: that of the webhook is a secret
        **{name: {"level": "WARNING"} for name in ("openai", "httpx2", "httpcore2")},  # a key must not be logged
        "huggingface_hub": {"propagate": False},  # has a handler of its own
    },
}

env.asked.add("NAVEMBED_HOME")
UNKNOWN_VARIABLES = {name: get_close_matches(name, env.asked, 1) for name in env.unknown("NAVEMBED_")}
KNOWN_VARIABLES = frozenset(env.asked)
GIVEN_VARIABLES = {name: env.values[name] for name in sorted(KNOWN_VARIABLES) if env.values.get(name)}
