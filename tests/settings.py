"""The application's settings in an instance of the tests' own, untouched by the developer's environment.

The test database is the instance's database, so that real processes started by a test see the same rows. Every worker
of pytest-xdist reads this for itself, and so has an instance of its own.
"""

import atexit
import os
import shutil
import tempfile

# Processes of pytest-xdist find here what their parent has set below.
RUN_HOME = os.environ.get("NAVEMBED_HOME", "") if "PYTEST_XDIST_WORKER" in os.environ else ""
OURS = ("NAVEMBED_", "NAVIDROME_", "TEXT_EMBEDDING_", "LOG_DIR", "PID_DIR", "DATABASE_URL")
for name in list(os.environ):
    if name.startswith(OURS) and not name.startswith("NAVEMBED_TEST_"):
        del os.environ[name]
HOME = tempfile.mkdtemp(prefix="nt-", dir="/tmp")  # short: unix sockets lie in it
RUN_HOME = RUN_HOME or HOME
"""The parent's instance: what all processes of a run share lies there, and goes with it."""
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
SERVER_URL = os.environ.get("NAVEMBED_TEST_DATABASE_URL", "")
os.environ.update(
    NAVEMBED_HOME=HOME,
    NAVEMBED_UPLOAD_SOCKET="off",  # its usual place is one for the whole machine
    DJANGO_SETTINGS_MODULE="navembed_site.settings",  # for processes that tests start
    DATABASE_URL=SERVER_URL and SERVER_URL + os.environ.get("PYTEST_XDIST_WORKER", ""),
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    # So that CPUs with and without AMX compute alike, in float32. Tests of a GPU's precision need it, too: with AMX,
    # oneDNN's convolutions in bfloat16 are wrong for groups as small as a tiny checkpoint's (torch 2.11).
    ONEDNN_MAX_CPU_ISA="AVX512_CORE_FP16",
)

from navembed_site.settings import *  # noqa: E402, F403
from navembed_site.settings import DATABASES, LOCAL_HOSTS, OUR_HOSTS  # noqa: E402

for names in (LOCAL_HOSTS, OUR_HOSTS):
    names.append("testserver")  # the name under which Django's test client calls
UNKNOWN_VARIABLES: dict[str, list[str]] = {}  # NAVEMBED_TEST_… are ours
DATABASES["default"]["TEST"] = {"NAME": DATABASES["default"]["NAME"]}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
