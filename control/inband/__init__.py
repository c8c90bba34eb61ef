"""In-band telemetry: flow reports of the sinks, entries that switch it on, Telemetry Report v2.0 in and out."""
