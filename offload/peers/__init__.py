"""Who is there: identity, discovery, links, topology. Moves dictionaries and files, not jobs."""
