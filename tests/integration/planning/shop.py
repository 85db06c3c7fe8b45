"""The small database of these tests."""

from __future__ import annotations

SHOP = """
CREATE TABLE station (id text PRIMARY KEY);
CREATE TABLE readings (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station text REFERENCES station,
    celsius numeric(5, 2) NOT NULL,
    note text
);
CREATE TABLE remark (reading integer REFERENCES readings, words text);
INSERT INTO station VALUES ('S1'), ('S2');
INSERT INTO readings (station, celsius) SELECT 'S' || 1 + g % 2, g / 100.0 FROM generate_series(1, 500) AS g;
CREATE VIEW warm AS SELECT id, celsius FROM readings WHERE celsius > 2;
CREATE VIEW warmest AS SELECT max(celsius) AS most FROM warm;
CREATE FUNCTION noted() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(note) FROM readings); END $$;
CREATE FUNCTION unrelated() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE PUBLICATION everyone FOR TABLE readings;
ANALYZE;
"""

#: Then a change of the table needs nobody's approval.
WITHOUT_DEPENDANTS = "DROP PUBLICATION everyone; DROP TABLE remark; DROP VIEW warm CASCADE"
