"""Who may talk to the exporter: TLS, bearer tokens with scopes and tenants, rates."""
