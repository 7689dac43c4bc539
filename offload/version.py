"""The version of this program, which instances tell one another."""

VERSION = "0.1.0"
