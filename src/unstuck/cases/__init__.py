"""The built-in cases. They return data and print nothing."""
