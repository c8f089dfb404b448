"""An application and a gateway as processes of their own."""
