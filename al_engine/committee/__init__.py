"""Where the predictions of a committee meet each other and labels: force deviation, errors, calibration, health."""
