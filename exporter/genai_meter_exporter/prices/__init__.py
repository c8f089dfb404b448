"""Making, checking and comparing price books and overlays: development, collectors and the command line."""
