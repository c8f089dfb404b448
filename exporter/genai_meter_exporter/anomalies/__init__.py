"""What the ledger can see and PromQL cannot cheaply: found at a cadence, kept with evidence, shown as metrics.

model       the section of the configuration
sums        the last 24 hours, the week before, the same 24 hours a week ago: from the roll-ups
spend       tenants and workflows far above their median day
services    new models, another mix of models, caches that no longer hit, retries
releases    when a service first reported a release, and prompts that grew since
evidence    words and figures: what most of a difference comes from
watch       looks again and again; opens and closes anomalies, and remembers them
exposition  their metrics
"""
