"""How to get between a caller and a provider: one file per SDK family. Knows nothing of tokens or prices."""
