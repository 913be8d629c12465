"""Some rows of the fault plan, in their short form; ``make faults`` runs all of them (``rows_*.py``)."""

from __future__ import annotations

from twisted.trial.runner import TestLoader

#: What breaks in most ways at once: one row for each promise.
CHOSEN = (
    "rows_exactly_once.ExactlyOnceTests.test_all_shapes",
    "rows_exactly_once.ExactlyOnceTests.test_nodes_die",
    "rows_subscriber.SubscriberTests.test_killed_and_frozen",
    "rows_subscriber.SubscriberTests.test_random_kills",
    "rows_redis_away.AwayTests.test_restarted_at_once",
    "rows_redis_away.LossTests.test_older_snapshot",
    "rows_redis_away.LossTests.test_without_data",
    "rows_redis_refuses.MeddledTests.test_log_trimmed",
    "rows_presence.PresenceTests.test_node_dies",
    "rows_presence.LimitTests.test_room_members",
    "rows_available.SentinelTests.test_primary_dies",
)


def testSuite() -> object:
    """What trial runs of this module."""
    return TestLoader().loadByNames([f"{__package__}.{name}" for name in CHOSEN])
