"""Further sources of telemetry beside gNMI and digests."""
