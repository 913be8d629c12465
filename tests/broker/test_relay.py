"""The relay over a real Redis, and each of its rules in the interleaving that needs it."""

from __future__ import annotations

from realtime.broker.relay import State

from .relays import RelayCase


class RelayTests(RelayCase):
    """Every plain message becomes one publication."""

    async def test_one_node(self) -> None:
        await self.begin("a")
        for number in range(50):
            await self.say("booking:confirmed", userId="alice", n=number)
        await self.comes(range(50))
        self.assertEqual(self.delivered()[0].event, "booking:confirmed")
        self.assertEqual(self.nodes[0].relay.held, 0)

    async def test_three_nodes(self) -> None:
        """One of them publishes, and all of them forget."""
        await self.begin("a", "b", "c")
        for number in range(200):
            await self.say("ticket:sold", eventId=number % 5, n=number)
        await self.comes(range(200))
        self.assertEqual([node.relay.held for node in self.nodes], [0, 0, 0])
        self.assertEqual(self.nodes[0].counted("ticket", "accepted"), 200)
        self.assertEqual(
            [node.relay.state for node in self.nodes], [State.HOLDER, State.LISTENER, State.LISTENER]
        )
