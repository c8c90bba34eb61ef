"""Weather: alerts (CAP 1.2, NWS GeoJSON) and forecasts (Open-Meteo JSON), laid on the ways of the links."""
