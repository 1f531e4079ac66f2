"""Pictures as plotly figures: pure functions from records to figures that need no kernel."""
