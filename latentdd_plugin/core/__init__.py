"""What every other part rests on: configuration, plug-ins, randomness, compute, storage, monitoring."""
