"""The web face: for now the JSON control API, through which commands talk to the instance."""
