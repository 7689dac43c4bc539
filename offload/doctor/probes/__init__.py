"""Thin probes: each looks at one thing and tells what it saw. None of them judges, or changes."""
