"""A connection to a MongoDB-speaking server that is no primary for a while: writes are refused as a replica set refuses them."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

import bson

from tests.support.databases import HOST, message

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


class SteppingDownProxy:
    """Passes everything on to the server; while it has `stepped_down`, that is added to the answer of each write.

    An answer with `ok: 0` stands instead of the write, which never reaches the server.
    """

    def __init__(self, port: int) -> None:
        self._target = (HOST, port)
        self._listener = socket.create_server((HOST, 0))
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.stepped_down: dict[str, Any] | None = None
        self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Ends all connections."""
        for connection in (self._listener, *self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
            finally:
                connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._open += [client, server]
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while request := message(client):
                client.sendall(self._answered(request, server))
        except OSError:
            return
        finally:
            client.close()
            server.close()

    def _answered(self, request: bytes, server: socket.socket) -> bytes:
        _, request_id, _, operation, _, kind = _HEAD.unpack_from(request)
        fault = self.stepped_down
        if fault is None or operation != _OP_MSG or kind != 0 or _command(request) not in _WRITES:
            server.sendall(request)
            return message(server)
        self.refused += 1
        if fault.get("ok") == 0.0:
            return _reply(request_id, fault)
        server.sendall(request)
        return _reply(request_id, {**_body(message(server)), **fault})


def _body(text: bytes) -> dict[str, Any]:
    """The document of the first section."""
    size = int.from_bytes(text[_HEAD.size : _HEAD.size + 4], "little")
    return bson.decode(text[_HEAD.size : _HEAD.size + size])


def _command(request: bytes) -> str:
    return next(iter(_body(request)))


def _reply(request_id: int, document: dict[str, Any]) -> bytes:
    body = bson.encode(document)
    return _HEAD.pack(_HEAD.size + len(body), 0, request_id, _OP_MSG, 0, 0) + body
