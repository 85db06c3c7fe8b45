-- The versions the demo starts from.
INSERT INTO schema_change.schema_registry (table_name, version, change_description)
VALUES
('quarterly_temperature_features', 'v1.0.0', 'Baseline: the table as the demo created it'),
('flights', 'v1.0.0', 'Baseline: the table as the demo created it');
