"""Several processes that train one net: launch, collectives, batch statistics."""
