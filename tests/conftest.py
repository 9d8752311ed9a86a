pytest_plugins = [
    "tests.support.engine_fixtures",
    "tests.support.gridengine",
    "tests.support.left_out",
    "tests.support.store_fixtures",
    "tests.support.torque_server",
]
