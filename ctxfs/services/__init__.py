"""Services of an open store: each answers one kind of request for the calling principal. Composed by `app.py`."""
