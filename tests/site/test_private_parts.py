"""What we change inside other packages is still where they look for it: one that moves it would ignore us silently."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import picklefield.fields
import pytest
from django.conf import settings
from django_q import cluster, signing
from django_q.status import Stat
from milvus_lite.engine import compaction, flush
from milvus_lite.engine.collection import Collection
from milvus_lite.search import assembler
from milvus_lite.search import filter as filters
from milvus_lite.storage.delta_index import DeltaIndex
from milvus_lite.storage.segment import Segment
from supervisor.xmlrpc import SupervisorTransport
from waitress import channel, parser, server, task

from embeddings import checks
from navembed_site import installation

ASKED: list[tuple[Callable[..., Any], str]] = [
    # batches/management/commands/worker.py
    (cluster.Cluster.start, "Sentinel"),
    (cluster.Sentinel.guard, "reincarnate"),
    (Stat.__init__, "status"),
    *((cluster.Sentinel.guard, name) for name in ("pool", "monitor", "pusher")),
    # batches/messages.py
    (signing.SignedPackage.dumps, "PickleSerializer"),
    (signing.SignedPackage.loads, "PickleSerializer"),
    (picklefield.fields.PickledObjectField.get_db_prep_value, "dbsafe_encode"),
    (picklefield.fields.PickledObjectField.to_python, "dbsafe_decode"),
    # embeddings/index/lite_patches.py
    (Collection.search, "execute_search_with_index"),
    (Collection._build_or_load_segment_index, "build_or_load_index"),
    *((flush.execute_flush, name) for name in ("write_data_file", "write_delta_file")),
    (compaction.CompactionManager._compact_files, "write_data_file"),
    (filters.compile_filter, "parse_expr"),
    (assembler.materialize_record, "row_to_dict"),
    *((Segment.__init__, name) for name in ("_vector_field", "vector_null_mask", "vectors", "table")),
    # embeddings/index/lite_search.py
    *((Segment.__init__, name) for name in ("file_path", "pks", "seqs", "indexes")),
    (DeltaIndex.is_deleted, "_map"),
    # navembed_site/instance/supervisor.py
    (SupervisorTransport.request, "_get_connection"),
    # navembed_site/http/server.py
    (channel.HTTPChannel.received, "parser_class"),
    (channel.HTTPChannel.service, "task_class"),
    (channel.HTTPChannel.handle_read, "last_activity"),
    (channel.HTTPChannel.received, "add_task"),
    (parser.HTTPRequestParser.received, "parse_header"),
    (parser.HTTPRequestParser.received, "body_rcv"),
    (channel.HTTPChannel.received, "expect_continue"),
    (server.BaseWSGIServer.handle_accept, "channel_class"),
    (channel.HTTPChannel.add_channel, "active_channels"),
    (task.WSGITask.execute, "get_environment"),
    (task.WSGITask.build_response_header, "set_close_on_finish"),
    (task.ThreadedTaskDispatcher.add_task, "queue"),
]


@pytest.mark.parametrize(("asks", "name"), ASKED, ids=lambda value: getattr(value, "__qualname__", value))
def test_what_we_replace_is_what_they_ask_for(asks: Callable[..., Any], name: str) -> None:
    code = inspect.unwrap(asks).__code__
    assert name in code.co_names


@pytest.mark.parametrize(
    ("module", "asked"),
    [
        ("generation/candidate_generator.py", "from ..utils import ModelOutput, is_sklearn_available"),
        ("loss/loss_for_object_detection.py", "from ..utils import is_accelerate_available, is_scipy_available"),
    ],
)
def test_transformers_asks_for_packages_where_we_answer(module: str, asked: str) -> None:
    package = Path(str(distribution("transformers").locate_file("transformers")))
    assert asked in (package / module).read_text()


def test_versions_that_we_know_are_those_that_are_pinned() -> None:
    pins = Path(settings.BASE_DIR, "requirements", "base.txt").read_text().splitlines()
    pinned = dict(line.split()[0].split("==") for line in pins if "==" in line)
    assert {name: pinned[name] for name in installation.CHANGED_INSIDE} == installation.CHANGED_INSIDE


def test_another_version_than_we_know_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_packages() == []
    monkeypatch.setitem(installation.CHANGED_INSIDE, "waitress", "3.0.1")
    [message] = checks.check_packages()
    assert message.msg == "waitress 3.0.2 is installed; navembed changes parts inside of it, and knows those of 3.0.1."
