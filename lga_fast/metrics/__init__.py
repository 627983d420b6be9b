"""Metrics: each member says what an edit did, in one number per request."""
