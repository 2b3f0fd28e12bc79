"""The programs that compute labels, each wrapped in a class with the method `label`."""
