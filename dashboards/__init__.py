"""The Grafana dashboards, built in Python. `python -m dashboards` writes their JSON beside this file."""
