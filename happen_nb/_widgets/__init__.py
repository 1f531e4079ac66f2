"""The widgets: live values, bindings and the dashboard. Imported when the first one is created."""
