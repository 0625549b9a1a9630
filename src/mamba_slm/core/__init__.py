"""Ground that everything stands on: errors, configuration, lazy loading, units, hardware facts. Imports no torch."""
