"""A committee's predictions compared with each other and with labels: deviation, errors, calibration, health."""
