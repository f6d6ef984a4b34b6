"""What can be seen in a new process alone: the time to the first result, and the memory of an inference."""
