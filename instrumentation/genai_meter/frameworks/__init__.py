"""Agent and workflow frameworks: what they know of a call made underneath (workflow, run, agent, step, tool)."""
