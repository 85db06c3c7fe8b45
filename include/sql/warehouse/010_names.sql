-- Names, dates, columns and log: what the other functions are written with.

CREATE OR REPLACE FUNCTION _wh.current_date_utc(offset_days integer DEFAULT 0) RETURNS date
LANGUAGE sql STABLE AS $body$
    SELECT (now() AT TIME ZONE 'UTC')::date + offset_days
$body$;

-- A year (2025) or a month (2026-03): its first day, the day behind it, and what its table's name ends with.
CREATE OR REPLACE FUNCTION _wh.period(period text, OUT first date, OUT until date, OUT suffix text)
LANGUAGE plpgsql IMMUTABLE STRICT AS $body$
BEGIN
    IF period !~ '^[12]\d{3}(-(0[1-9]|1[0-2]))?$' THEN
        RAISE EXCEPTION 'neither a year nor a month: %', period USING HINT = 'write 2025, or 2026-03';
    END IF;
    first := make_date(left(period, 4)::integer, coalesce(nullif(substr(period, 6, 2), ''), '1')::integer, 1);
    until := first + CASE length(period) WHEN 4 THEN interval '1 year' ELSE interval '1 month' END;
    suffix := replace(period, '-', '_');
END
$body$;

CREATE OR REPLACE FUNCTION _wh.log_entry(level text, message text, context jsonb) RETURNS void
LANGUAGE sql AS $body$
    INSERT INTO _wh.log (level, message, context) VALUES (level, message, coalesce(context, '{}'))
$body$;

CREATE OR REPLACE FUNCTION _wh.log_info(message text, context jsonb DEFAULT '{}') RETURNS void
LANGUAGE sql AS $body$
    SELECT _wh.log_entry('info', message, context)
$body$;

CREATE OR REPLACE FUNCTION _wh.log_error(message text, context jsonb DEFAULT '{}') RETURNS void
LANGUAGE sql AS $body$
    SELECT _wh.log_entry('error', message, context)
$body$;

CREATE OR REPLACE FUNCTION _wh.log_debug(message text, context jsonb DEFAULT '{}') RETURNS void
LANGUAGE sql AS $body$
    SELECT _wh.log_entry('debug', message, context)
$body$;

CREATE OR REPLACE FUNCTION _wh.template_of(template text) RETURNS _wh.mv_templates
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    wanted _wh.mv_templates;
BEGIN
    SELECT t.* INTO wanted FROM _wh.mv_templates AS t WHERE t.template_name = template;
    IF wanted.template_name IS NULL THEN
        RAISE EXCEPTION 'there is no template %', quote_nullable(template) USING HINT = 'see _wh.mv_templates';
    END IF;
    RETURN wanted;
END
$body$;

-- A list in SQL taken apart at its commas, outside of brackets, quotes and comments.
CREATE OR REPLACE FUNCTION _wh.list_items(list text, separator text DEFAULT ',') RETURNS SETOF text
LANGUAGE plpgsql IMMUTABLE STRICT AS $body$
DECLARE
    token text;
    item text := '';
    depth integer := 0;
BEGIN
    FOR token IN
        SELECT m[1]
        FROM regexp_matches(list, $re$("(?:[^"]|"")*"|'(?:[^']|'')*'|--[^\n]*|/\*(?:[^*]|\*+[^*/])*\*+/|.)$re$, 'g') AS m
    LOOP
        CONTINUE WHEN token LIKE '--%' OR token LIKE '/*%';
        IF token = separator AND depth = 0 THEN
            RETURN NEXT btrim(item, E' \t\r\n');
            item := '';
        ELSE
            depth := depth + CASE token WHEN '(' THEN 1 WHEN '[' THEN 1 WHEN ')' THEN -1 WHEN ']' THEN -1 ELSE 0 END;
            item := item || token;
        END IF;
    END LOOP;
    RETURN NEXT btrim(item, E' \t\r\n');
END
$body$;

-- The columns of a list of definitions, name TYPE, …, in its order. A type is one that this database knows.
CREATE OR REPLACE FUNCTION _wh.columns_in(definitions text) RETURNS TABLE (place integer, column_name name, data_type text)
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    item text;
    parts text[];
BEGIN
    place := 0;
    FOR item IN SELECT i FROM _wh.list_items(definitions) AS i WHERE i <> '' LOOP
        parts := regexp_match(item, '^("(?:[^"]|"")+"|[[:alpha:]_][[:alnum:]_$]*)\s+(.+)$');
        IF parts IS NULL THEN
            RAISE EXCEPTION 'no column definition: %', item USING HINT = 'write: name TYPE, name TYPE, …';
        END IF;
        place := place + 1;
        column_name := (parse_ident(parts[1]))[1];
        data_type := _wh.type_of(parts[2]);
        RETURN NEXT;
    END LOOP;
END
$body$;

-- A type as PostgreSQL writes it, such as character varying(10); what is no type of this database is refused.
CREATE OR REPLACE FUNCTION _wh.type_of(type_name text) RETURNS text
LANGUAGE plpgsql STABLE STRICT AS $body$
DECLARE
    modifier text := regexp_replace(substring(type_name FROM '\(([^()]*)\)'), '\s', '', 'g');
    base text := to_regtype(regexp_replace(type_name, '\s*\([^()]*\)', ''))::text;
BEGIN
    IF base IS NULL OR to_regtype(type_name) IS NULL OR modifier !~ '^-?\d+(,-?\d+)?$' THEN
        RAISE EXCEPTION 'type % does not exist', type_name USING ERRCODE = 'undefined_object';
    END IF;
    IF modifier IS NULL THEN
        RETURN base;
    END IF;
    IF base IN ('numeric', 'numeric[]') AND modifier !~ ',' THEN
        modifier := modifier || ',0';
    END IF;
    -- Of times the modifier stands behind the first word, of an array before its brackets.
    RETURN regexp_replace(
        base, CASE WHEN base ~ '^time' THEN '^(timestamp|time)' ELSE '^([^\[]+)' END, format('\1(%s)', modifier)
    );
END
$body$;
