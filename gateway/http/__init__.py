"""What HTTP itself asks of the gateway, whatever the dialect: connections, bodies, time, errors."""
