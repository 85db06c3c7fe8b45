"""Everything that understands SQL text, by PostgreSQL's own grammar: expressions, types, index keys, scripts."""
