"""The programs that compute labels, each behind one class with a method `label`."""
