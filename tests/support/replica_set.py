"""A replica set of three genuine MongoDB servers, whose primary can step down, die or be cut off."""

from __future__ import annotations

from typing import Any

from pymongo.errors import PyMongoError

from tests.support.databases import MongoServer, wait_until

_NAME = "rs0"
_SETTINGS = {"electionTimeoutMillis": 1500, "heartbeatIntervalMillis": 300}
"""an election takes some two seconds, not the ten of the default"""


class ReplicaSet:
    """Three nodes on free ports.  `url` names all of them."""

    def __init__(self, program: str, *options: str) -> None:
        self.nodes = [MongoServer(program, "--replSet", _NAME, *options) for _ in range(3)]
        self.url = f"mongodb://{','.join(node.address for node in self.nodes)}/?replicaSet={_NAME}"
        self._initiated = False

    def start(self) -> None:
        """Returns when there is a primary that writes, and two others that follow it."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait()
        if not self._initiated:
            members = [{"_id": number, "host": node.address} for number, node in enumerate(self.nodes)]
            with self.nodes[0].client() as client:
                client.admin.command("replSetInitiate", {"_id": _NAME, "members": members, "settings": _SETTINGS})
            self._initiated = True
        self.wait()

    def wait(self) -> None:
        """Until one node is primary and the two others are secondaries."""
        wait_until(lambda: sorted(map(role_of, self.nodes)) == ["primary", "secondary", "secondary"], "a set of three")

    def primary(self) -> MongoServer:
        """The node that takes writes now, or takes over within a minute."""
        found = wait_until(lambda: [node for node in self.nodes if role_of(node) == "primary"], "a primary")
        return found[-1]

    def secondaries(self) -> list[MongoServer]:
        """The others."""
        primary = self.primary()
        return [node for node in self.nodes if node is not primary]

    def step_down(self, seconds: int = 5) -> None:
        """The primary gives up its place for so long; returns when another has it."""
        was = self.primary()
        with was.client() as client:
            client.admin.command("replSetStepDown", seconds, secondaryCatchUpPeriodSecs=min(2, seconds - 1), force=True)
        wait_until(lambda: any(role_of(node) == "primary" for node in self.nodes if node is not was), "another primary")

    def stop(self) -> None:
        """Kills all nodes."""
        for node in self.nodes:
            node.stop()

    def mend(self) -> None:
        """All three run and follow each other again, whatever was done to them."""
        for node in self.nodes:
            node.resume()
            if not node.runs:
                node.launch()
        self.wait()

    def end(self) -> None:
        """Stops them for good."""
        for node in self.nodes:
            node.end()


def role_of(node: MongoServer) -> str:
    """`primary`, `secondary`, something else, or `away`."""
    if not node.runs:
        return "away"
    try:
        with node.client(socketTimeoutMS=1000, connectTimeoutMS=1000) as client:
            answer: dict[str, Any] = client.admin.command("hello")
    except PyMongoError:
        return "away"
    return "primary" if answer.get("isWritablePrimary") else "secondary" if answer.get("secondary") else "other"
