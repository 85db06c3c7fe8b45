"""Build DAGs. Parsing a DAG file reads change files and nothing else: no connection, no network, no heavy import."""
