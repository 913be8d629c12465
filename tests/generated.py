"""How tests with generated examples run."""

from hypothesis import HealthCheck, settings

#: No deadline and no complaint of slowness: a busy machine is no fault of the code under test.
unhurried = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
