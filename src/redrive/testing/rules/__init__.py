"""What a history must not show: one promise a file, each a function from a case to its violations."""
