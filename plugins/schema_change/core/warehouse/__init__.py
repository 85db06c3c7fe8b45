"""The multi-tenant template warehouse: its toolkit, schema ``_wh``."""
