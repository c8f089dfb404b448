"""The read API and `/metrics`, on one port."""
