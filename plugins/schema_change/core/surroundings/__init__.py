"""What lies around a change: services to stop and start, health, metrics, query plans, time, checks that run later."""
