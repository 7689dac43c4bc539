"""What is to be done: jobs, their store, their execution. Knows nothing of other machines."""
