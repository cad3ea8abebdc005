"""A collector of traces on loopback: takes what an OpenTelemetry SDK exports over HTTP, and keeps it.

Nobody configures anything by hand: `environment` is what an operator would set, and `LOADER` does what the program
`opentelemetry-instrument` does before the hub's own code runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.upstreams.loopback import LoopbackServer, Received

LOADER = """
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure(auto_instrumentation_version="0")
"""
"""A `sitecustomize`, as that program puts one in the way of every Python that it starts."""


@dataclass(frozen=True)
class Span:
    """One span, as it came."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    failed: bool
    said: str
    """The words of its status."""
    attributes: dict[str, Any]
    events: tuple[str, ...]
    service: str


class Collector(LoopbackServer):
    """See the module."""

    def __init__(self) -> None:
        super().__init__(self._take)
        self.spans: list[Span] = []
        self._came = threading.Condition()

    async def _take(self, _request: web.Request, received: Received) -> web.StreamResponse:
        if received.path != "/v1/traces":
            self.surprises.append(f"{received.method} {received.path}")
            return web.Response(status=404)
        with self._came:
            self.spans += _spans(received.body)
            self._came.notify_all()
        return web.Response(body=b"", content_type="application/x-protobuf")

    def environment(self, folder: Path, **more: str) -> dict[str, str]:
        """The variables of a hub whose traces come here; what is to be loaded is put into `folder`."""
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(LOADER)
        return {
            "PYTHONPATH": str(folder),
            "OTEL_SERVICE_NAME": "a-hub",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_METRICS_EXPORTER": "none",
            # The hub's records must not come: whoever puts a handler beside ours would get them unredacted.
            "OTEL_LOGS_EXPORTER": "otlp_proto_http",
            "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            **more,
        }

    def wait_for(self, which: Callable[[Span], bool], timeout: float) -> Span:
        """The first span like this. Raises AssertionError."""
        with self._came:
            came = self._came.wait_for(lambda: any(map(which, self.spans)), timeout)
            assert came, f"no such span among {[span.name for span in self.spans]}"
            return next(filter(which, self.spans))


def _spans(body: bytes) -> list[Span]:
    found: list[Span] = []
    request: Any = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_spans:
        about = _values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                found.append(
                    Span(
                        name=span.name,
                        kind={1: "internal", 2: "server", 3: "client"}.get(span.kind, str(span.kind)),
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        failed=span.status.code == 2,
                        said=span.status.message,
                        attributes=_values(span.attributes),
                        events=tuple(event.name for event in span.events),
                        service=about.get("service.name", ""),
                    )
                )
    return found


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
