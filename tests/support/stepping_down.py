"""A connection to a MongoDB that is no primary for a while: writes are refused as a replica set refuses them."""

from __future__ import annotations

import socket
import struct
from typing import Any

import bson

from tests.support.databases import Proxy, passed_on

_HEAD = struct.Struct("<iiiiIB")
"""OP_MSG: length, id, id of the request, operation, flags, kind of the first section."""
_OP_MSG = 2013
_WRITES = frozenset({"insert", "update", "delete", "findAndModify"})

NOT_WRITABLE_PRIMARY = {"ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary"}
INTERRUPTED = {
    "ok": 0.0,
    "code": 11602,
    "codeName": "InterruptedDueToReplStateChange",
    "errmsg": "operation was interrupted",
}
UNCONFIRMED = {"writeConcernError": {"code": 189, "codeName": "PrimarySteppedDown", "errmsg": "primary stepped down"}}
"""The write has taken place, here; whether a majority has it nobody knows."""


class SteppingDownProxy(Proxy):
    """Passes everything on to the server; while it has `stepped_down`, that is added to the answer of each write.

    An answer with `ok: 0` stands instead of the write, which never reaches the server.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.stepped_down: dict[str, Any] | None = None
        self.refused = 0

    def answer(self, request: bytes, server: socket.socket) -> bytes:
        _, request_id, _, operation, _, kind = _HEAD.unpack_from(request)
        fault = self.stepped_down
        if fault is None or operation != _OP_MSG or kind != 0 or _command(request) not in _WRITES:
            return passed_on(request, server)
        self.refused += 1
        if fault.get("ok") == 0.0:
            return _reply(request_id, fault)
        return _reply(request_id, {**_body(passed_on(request, server)), **fault})


def _body(text: bytes) -> dict[str, Any]:
    """The document of the first section."""
    size = int.from_bytes(text[_HEAD.size : _HEAD.size + 4], "little")
    return bson.decode(text[_HEAD.size : _HEAD.size + size])


def _command(request: bytes) -> str:
    return next(iter(_body(request)))


def _reply(request_id: int, document: dict[str, Any]) -> bytes:
    body = bson.encode(document)
    return _HEAD.pack(_HEAD.size + len(body), 0, request_id, _OP_MSG, 0, 0) + body
