"""Checks of the dashboards with Grafana's own types and components; they need Node.js."""
