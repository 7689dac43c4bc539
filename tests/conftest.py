"""The fixtures that users have by the entry point; here by name, so that coverage sees them."""

pytest_plugins = ["offload.testing.plugin"]
