"""A checkpoint made ready to run, and the device it runs on."""
