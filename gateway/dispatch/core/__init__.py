"""Who runs what, where and when: no socket, no clock, no task."""
