"""Links between places: the driver of Toxiproxy's API, and the embedded relay that speaks it."""
