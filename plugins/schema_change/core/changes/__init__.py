"""Change files: read, check, chain, describe (JSON Schema) and scaffold them."""
