"""Incidents sent to where people are told of trouble: each change of one as an HTTP request."""
