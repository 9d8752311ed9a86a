import signal

pytest_plugins = [
    "tests.support.engine_fixtures",
    "tests.support.gridengine",
    "tests.support.left_out",
    "tests.support.side_by_side",
    "tests.support.store_fixtures",
    "tests.support.torque_server",
]


def pytest_configure() -> None:
    """A shell in the background, or nohup, leaves signals ignored to what it starts; programs under test would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
