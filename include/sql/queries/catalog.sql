-- The catalog of one database, set-based. Every block leaves out system schemas, temporary schemas and schema_change;
-- rows of relations that an extension owns are dropped by the reader, which asks for the relations first. Where a block
-- takes oids, they are the relations to look at.

-- name: one_snapshot
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- name: settings
-- Planning these queries takes longer than a few tables do: a generic plan is kept. Of many tables it would be a bad one.
SELECT
    set_config('search_path', '', true),
    set_config('plan_cache_mode', CASE WHEN %(few)s THEN 'force_generic_plan' ELSE 'force_custom_plan' END, true);

-- name: names
-- Every relation, and the indexes it has: (oid, schema, name, indexes).
SELECT
    c.oid,
    n.nspname,
    c.relname,
    coalesce(array_agg(x.relname::text) FILTER (WHERE x.relname IS NOT NULL), '{}')
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN pg_index AS i ON c.oid = i.indrelid
LEFT JOIN pg_class AS x ON i.indexrelid = x.oid
WHERE
    c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired') AND n.nspname !~ '^pg_'
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'
    )
GROUP BY c.oid, n.nspname, c.relname;

-- name: oids
SELECT c.oid
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (nspname, relname)
INNER JOIN pg_namespace AS n ON t.nspname = n.nspname
INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND t.relname = c.relname AND c.relkind IN ('r', 'p', 'v', 'm', 'f');

-- name: around
-- The relations asked for with what their definition, or whose definition, names them: (oid, surrounded). Surrounded are
-- they themselves and their family of parents, partitions and heirs; beside them are foreign keys' other ends, views (and
-- views of views), tables with a rule or policy that looks at them, and those that their own rules and policies look at.
WITH RECURSIVE family (oid) AS (
    SELECT unnest(%(oids)s::oid[])
    UNION
    SELECT CASE WHEN h.inhrelid = f.oid THEN h.inhparent ELSE h.inhrelid END
    FROM family AS f
    INNER JOIN pg_inherits AS h ON f.oid IN (h.inhrelid, h.inhparent)
),

users (oid) AS (
    SELECT f.oid
    FROM family AS f
    UNION
    SELECT coalesce(r.ev_class, y.polrelid)
    FROM users AS u
    INNER JOIN pg_class AS c ON u.oid = c.oid
    LEFT JOIN pg_type AS t ON c.reltype = t.oid
    CROSS JOIN LATERAL (
        SELECT d.classid, d.objid
        FROM pg_depend AS d
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = u.oid
        UNION ALL
        SELECT d.classid, d.objid
        FROM pg_depend AS d
        WHERE d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray)
    ) AS d
    LEFT JOIN pg_rewrite AS r ON d.objid = r.oid AND d.classid = 'pg_rewrite'::regclass
    LEFT JOIN pg_policy AS y ON d.objid = y.oid AND d.classid = 'pg_policy'::regclass
    WHERE r.oid IS NOT NULL OR y.oid IS NOT NULL
)

SELECT f.oid, true
FROM family AS f
UNION ALL
(
    SELECT u.oid, false
    FROM users AS u
    UNION
    SELECT k.conrelid, false
    FROM family AS f
    INNER JOIN pg_constraint AS k ON f.oid = k.confrelid
    UNION
    SELECT k.confrelid, false
    FROM family AS f
    INNER JOIN pg_constraint AS k ON f.oid = k.conrelid AND k.confrelid <> 0
    UNION
    SELECT d.refobjid, false
    FROM family AS f
    INNER JOIN pg_policy AS y ON f.oid = y.polrelid
    INNER JOIN pg_depend AS d
        ON y.oid = d.objid AND d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass
    UNION
    SELECT d.refobjid, false
    FROM family AS f
    INNER JOIN pg_rewrite AS r ON f.oid = r.ev_class AND r.rulename <> '_RETURN'
    INNER JOIN pg_depend AS d
        ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    EXCEPT
    SELECT f.oid, false
    FROM family AS f
);

-- name: relations
WITH RECURSIVE leaf (root, oid, relkind) AS (
    -- A partitioned table is as large as its partitions.
    SELECT c.oid, c.oid, c.relkind
    FROM pg_class AS c
    WHERE c.relkind = 'p' AND c.oid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT l.root, c.oid, c.relkind
    FROM leaf AS l
    INNER JOIN pg_inherits AS h ON l.oid = h.inhparent AND l.relkind = 'p'
    INNER JOIN pg_class AS c ON h.inhrelid = c.oid
),

divided AS (
    SELECT
        l.root,
        sum(greatest(c.reltuples, 0)) AS rows,
        sum(pg_total_relation_size(c.oid)) AS bytes,
        sum(
            pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid)
        ) AS writes
    FROM leaf AS l
    INNER JOIN pg_class AS c ON l.oid = c.oid
    WHERE l.relkind <> 'p'
    GROUP BY l.root
)

SELECT
    c.oid,
    n.nspname,
    c.relname,
    c.relkind::text,
    c.relpersistence::text,
    pg_get_userbyid(c.relowner),
    c.relrowsecurity,
    c.relforcerowsecurity,
    CASE c.relreplident
        WHEN 'd' THEN ''
        WHEN 'n' THEN 'nothing'
        WHEN 'f' THEN 'full'
        ELSE 'index'
    END,
    ARRAY(
        SELECT o.option
        FROM
            unnest(coalesce(c.reloptions, '{}') || coalesce(
                (
                    SELECT array_prepend('server=' || s.srvname, f.ftoptions)
                    FROM pg_foreign_table AS f
                    INNER JOIN pg_foreign_server AS s ON f.ftserver = s.oid
                    WHERE f.ftrelid = c.oid
                ), '{}'
            )) AS o (option)
        ORDER BY o.option COLLATE "C"
    ),
    CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
    pg_get_expr(c.relpartbound, c.oid),
    CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
    d.description,
    ARRAY(
        SELECT a.item::text
        FROM unnest(coalesce(c.relacl, acldefault('r', c.relowner))) AS a (item)
        ORDER BY a.item::text COLLATE "C"
    ),
    CASE WHEN c.relkind = 'p' THEN coalesce(l.rows, 0) ELSE greatest(c.reltuples, 0) END::bigint,
    CASE WHEN c.relkind = 'p' THEN coalesce(l.bytes, 0) ELSE coalesce(pg_total_relation_size(c.oid), 0) END::bigint,
    CASE
        WHEN c.relkind = 'p' THEN coalesce(l.writes, 0)
        ELSE
            pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid)
    END::bigint
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN divided AS l ON c.oid = l.root
LEFT JOIN pg_description AS d ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
WHERE
    c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND c.oid = ANY(%(oids)s::oid[])
    AND n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired') AND n.nspname !~ '^pg_'
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'
    );

-- name: columns
-- A NOT VALID not-null constraint (PostgreSQL 18) sets attnotnull too, but old rows may hold nulls.
SELECT
    a.attrelid,
    a.attname,
    format_type(a.atttypid, a.atttypmod),
    NOT a.attnotnull OR EXISTS (
        SELECT FROM pg_constraint AS k
        WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY(k.conkey)
    ),
    pg_get_expr(f.adbin, f.adrelid),
    a.attgenerated::text,
    a.attidentity::text,
    CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END,
    d.description,
    ARRAY(SELECT i.item::text FROM unnest(a.attacl) AS i (item) ORDER BY i.item::text COLLATE "C"),
    ARRAY(
        SELECT o.option
        FROM
            unnest(coalesce(a.attoptions, '{}') || coalesce(a.attfdwoptions, '{}') || ARRAY[
                CASE WHEN a.attstorage <> t.typstorage THEN 'storage=' || a.attstorage::text END,
                CASE WHEN a.attcompression <> '' THEN 'compression=' || a.attcompression::text END,
                CASE WHEN a.attstattarget >= 0 THEN 'statistics=' || a.attstattarget END
            ]) AS o (option)
        WHERE o.option IS NOT NULL
        ORDER BY o.option COLLATE "C"
    )
FROM pg_attribute AS a
INNER JOIN pg_class AS c ON a.attrelid = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
INNER JOIN pg_type AS t ON a.atttypid = t.oid
LEFT JOIN pg_attrdef AS f ON a.attrelid = f.adrelid AND a.attnum = f.adnum
LEFT JOIN pg_description AS d
    ON a.attrelid = d.objoid AND d.classoid = 'pg_class'::regclass AND a.attnum = d.objsubid
WHERE
    a.attnum > 0 AND NOT a.attisdropped
    AND a.attrelid = ANY(%(oids)s::oid[])
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired') AND n.nspname !~ '^pg_'
ORDER BY a.attrelid, a.attnum;

-- name: constraints
-- Valid not-null constraints are the column's property, whatever their name. The copies that PostgreSQL makes for each
-- partition of a referenced table have generated names and say nothing new.
SELECT
    k.conrelid,
    k.conname,
    k.contype::text,
    pg_get_constraintdef(k.oid),
    ARRAY(
        SELECT a.attname::text
        FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, position)
        INNER JOIN pg_attribute AS a ON u.attnum = a.attnum AND k.conrelid = a.attrelid
        ORDER BY u.position
    ),
    k.convalidated,
    fn.nspname,
    f.relname,
    d.description
FROM pg_constraint AS k
INNER JOIN pg_class AS c ON k.conrelid = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN pg_class AS f ON k.confrelid = f.oid
LEFT JOIN pg_namespace AS fn ON f.relnamespace = fn.oid
LEFT JOIN pg_constraint AS p ON k.conparentid = p.oid
LEFT JOIN pg_description AS d ON k.oid = d.objoid AND d.classoid = 'pg_constraint'::regclass
WHERE
    (k.contype IN ('c', 'f', 'p', 'u', 'x') OR (k.contype = 'n' AND NOT k.convalidated))
    AND k.conrelid = ANY(%(oids)s::oid[])
    AND (p.conrelid IS NULL OR p.conrelid <> k.conrelid)
    AND n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired') AND n.nspname !~ '^pg_'
ORDER BY k.conrelid, k.conname COLLATE "C";

-- name: indexes
SELECT
    i.indrelid,
    x.relname,
    pg_get_indexdef(i.indexrelid),
    ARRAY(
        SELECT a.attname::text
        FROM unnest(i.indkey) WITH ORDINALITY AS u (attnum, position)
        INNER JOIN pg_attribute AS a ON u.attnum = a.attnum AND i.indrelid = a.attrelid
        WHERE u.position <= i.indnkeyatts
        ORDER BY u.position
    ),
    i.indisunique,
    i.indisprimary,
    i.indisvalid,
    d.description,
    i.indisclustered,
    i.indisreplident
FROM pg_index AS i
INNER JOIN pg_class AS x ON i.indexrelid = x.oid
INNER JOIN pg_class AS c ON i.indrelid = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN pg_description AS d ON x.oid = d.objoid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
WHERE
    c.relkind IN ('r', 'p', 'm')
    AND i.indrelid = ANY(%(oids)s::oid[])
    AND n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired') AND n.nspname !~ '^pg_'
ORDER BY i.indrelid, x.relname COLLATE "C";

-- name: triggers
SELECT
    t.tgrelid,
    t.tgname,
    pg_get_triggerdef(t.oid),
    t.tgenabled::text,
    d.description
FROM pg_trigger AS t
INNER JOIN pg_class AS c ON t.tgrelid = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN pg_description AS d ON t.oid = d.objoid AND d.classoid = 'pg_trigger'::regclass
WHERE
    NOT t.tgisinternal
    AND t.tgrelid = ANY(%(oids)s::oid[])
    AND n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired') AND n.nspname !~ '^pg_'
ORDER BY t.tgrelid, t.tgname COLLATE "C";

-- name: parts
-- What a relation has besides: (relation, kind, text), in a stable order.
SELECT p.relation, p.kind, p.definition
FROM (
    SELECT
        y.polrelid AS relation,
        'policy' AS kind,
        concat_ws(
            ' ',
            quote_ident(y.polname), CASE WHEN y.polpermissive THEN 'permissive' ELSE 'restrictive' END,
            'for', CASE y.polcmd WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update' WHEN 'd' THEN 'delete' ELSE 'all' END,
            'to', (
                SELECT string_agg(
                    CASE WHEN r.role = 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(r.role)) END,
                    ', ' ORDER BY pg_get_userbyid(r.role) COLLATE "C"
                )
                FROM unnest(y.polroles) AS r (role)
            ),
            'using (' || pg_get_expr(y.polqual, y.polrelid) || ')',
            'with check (' || pg_get_expr(y.polwithcheck, y.polrelid) || ')'
        ) AS definition
    FROM pg_policy AS y
    UNION ALL
    SELECT r.ev_class, 'rule', concat_ws(' ', pg_get_ruledef(r.oid), nullif(r.ev_enabled::text, 'O'))
    FROM pg_rewrite AS r
    INNER JOIN pg_class AS c ON r.ev_class = c.oid
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    WHERE
        r.rulename <> '_RETURN'
        AND n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired') AND n.nspname !~ '^pg_'
    UNION ALL
    SELECT
        s.stxrelid,
        'statistics',
        concat_ws(' ', pg_get_statisticsobjdef(s.oid), CASE WHEN s.stxstattarget >= 0 THEN 'target ' || s.stxstattarget END)
    FROM pg_statistic_ext AS s
    UNION ALL
    SELECT h.inhrelid, 'parent', json_build_array(n.nspname, c.relname)::text
    FROM pg_inherits AS h
    INNER JOIN pg_class AS c ON h.inhparent = c.oid AND c.relkind IN ('r', 'p', 'f')
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
) AS p
WHERE p.relation = ANY(%(oids)s::oid[])
ORDER BY p.relation, p.kind, p.definition COLLATE "C";

-- name: uses
-- What is made of a relation: (relation, kind, name, columns). No column means the whole relation, or one that is not
-- told. Indexes, constraints, triggers and statistics are the relation's own parts; the other kinds are dependants.
WITH uses AS (
    SELECT d.refobjid AS relation, nullif(d.refobjsubid, 0) AS attnum, d.classid, d.objid, d.objsubid
    FROM pg_depend AS d
    WHERE
        d.refclassid = 'pg_class'::regclass AND d.deptype IN ('n', 'a')
        AND d.refobjid = ANY(%(oids)s::oid[])
    UNION
    SELECT c.oid, NULL, d.classid, d.objid, d.objsubid
    FROM pg_class AS c
    INNER JOIN pg_type AS t ON c.reltype = t.oid
    CROSS JOIN LATERAL (VALUES (t.oid), (t.typarray)) AS y (oid)
    INNER JOIN pg_depend AS d ON y.oid = d.refobjid AND d.refclassid = 'pg_type'::regclass AND d.deptype = 'n'
    WHERE c.oid = ANY(%(oids)s::oid[])
),

used AS (
    SELECT
        u.relation,
        u.attnum,
        CASE v.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END AS kind,
        v.oid::regclass::text AS name
    FROM uses AS u
    INNER JOIN pg_rewrite AS r ON u.objid = r.oid AND u.classid = 'pg_rewrite'::regclass
    INNER JOIN pg_class AS v ON r.ev_class = v.oid AND v.relkind IN ('v', 'm') AND v.oid <> u.relation
    UNION
    SELECT u.relation, u.attnum, 'rule', quote_ident(r.rulename) || ' on ' || r.ev_class::regclass::text
    FROM uses AS u
    INNER JOIN pg_rewrite AS r
        ON u.objid = r.oid AND u.classid = 'pg_rewrite'::regclass AND r.rulename <> '_RETURN'
    UNION
    SELECT
        u.relation,
        u.attnum,
        CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END,
        p.oid::regprocedure::text
    FROM uses AS u
    INNER JOIN pg_proc AS p ON u.objid = p.oid AND u.classid = 'pg_proc'::regclass
    UNION
    SELECT u.relation, u.attnum, 'policy', quote_ident(y.polname) || ' on ' || y.polrelid::regclass::text
    FROM uses AS u
    INNER JOIN pg_policy AS y ON u.objid = y.oid AND u.classid = 'pg_policy'::regclass
    UNION
    SELECT u.relation, u.attnum, 'generated column', f.adrelid::regclass::text || '.' || quote_ident(a.attname)
    FROM uses AS u
    INNER JOIN pg_attrdef AS f ON u.objid = f.oid AND u.classid = 'pg_attrdef'::regclass
    INNER JOIN pg_attribute AS a ON f.adrelid = a.attrelid AND f.adnum = a.attnum AND a.attgenerated <> ''
    WHERE u.attnum IS DISTINCT FROM a.attnum
    UNION
    -- A virtual generated column's dependencies, and a stored one's on 15, belong to the column, not to its default.
    SELECT u.relation, u.attnum, 'generated column', a.attrelid::regclass::text || '.' || quote_ident(a.attname)
    FROM uses AS u
    INNER JOIN pg_attribute AS a
        ON u.objid = a.attrelid AND u.objsubid = a.attnum AND u.classid = 'pg_class'::regclass AND a.attgenerated <> ''
    UNION
    SELECT a.attrelid, NULL, 'generated column', a.attrelid::regclass::text || '.' || quote_ident(a.attname)
    FROM pg_attribute AS a
    WHERE a.attgenerated <> '' AND NOT a.attisdropped AND a.attrelid = ANY(%(oids)s::oid[])
    UNION
    SELECT k.confrelid, c.attnum, 'foreign key', quote_ident(k.conname) || ' of ' || k.conrelid::regclass::text
    FROM pg_constraint AS k
    CROSS JOIN LATERAL unnest(k.confkey) AS c (attnum)
    LEFT JOIN pg_constraint AS p ON k.conparentid = p.oid
    WHERE
        k.contype = 'f' AND k.confrelid <> k.conrelid AND (p.conrelid IS NULL OR p.conrelid <> k.conrelid)
        AND k.confrelid = ANY(%(oids)s::oid[])
    UNION
    SELECT r.prrelid, c.attnum, 'publication', quote_ident(b.pubname)
    FROM pg_publication_rel AS r
    INNER JOIN pg_publication AS b ON r.prpubid = b.oid
    LEFT JOIN LATERAL unnest(r.prattrs::int2[]) AS c (attnum) ON true
    WHERE r.prrelid = ANY(%(oids)s::oid[])
    UNION
    SELECT c.oid, NULL, 'publication', quote_ident(b.pubname)
    FROM pg_publication_namespace AS s
    INNER JOIN pg_publication AS b ON s.pnpubid = b.oid
    INNER JOIN pg_class AS c ON s.pnnspid = c.relnamespace AND c.relkind IN ('r', 'p')
    WHERE c.oid = ANY(%(oids)s::oid[])
    UNION
    SELECT c.oid, NULL, 'publication', quote_ident(b.pubname)
    FROM pg_publication AS b
    INNER JOIN pg_class AS c ON b.puballtables AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
    WHERE c.oid = ANY(%(oids)s::oid[])
    UNION
    SELECT u.relation, u.attnum, 'index', x.relname
    FROM uses AS u
    INNER JOIN pg_index AS i
        ON u.objid = i.indexrelid AND u.relation = i.indrelid AND u.classid = 'pg_class'::regclass
    INNER JOIN pg_class AS x ON i.indexrelid = x.oid
    UNION
    -- The index of a constraint depends on that, not on the columns.
    SELECT i.indrelid, c.attnum, 'index', x.relname
    FROM pg_index AS i
    INNER JOIN pg_class AS x ON i.indexrelid = x.oid
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) AS c (attnum)
    WHERE c.attnum > 0 AND i.indrelid = ANY(%(oids)s::oid[])
    UNION
    SELECT k.conrelid, c.attnum, 'constraint', k.conname
    FROM pg_constraint AS k
    CROSS JOIN LATERAL unnest(k.conkey) AS c (attnum)
    WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND k.conrelid = ANY(%(oids)s::oid[])
    UNION
    SELECT u.relation, u.attnum, 'trigger', t.tgname
    FROM uses AS u
    INNER JOIN pg_trigger AS t
        ON u.objid = t.oid AND u.relation = t.tgrelid AND u.classid = 'pg_trigger'::regclass AND NOT t.tgisinternal
    UNION
    SELECT u.relation, u.attnum, 'statistics', s.stxnamespace::regnamespace::text || '.' || quote_ident(s.stxname)
    FROM uses AS u
    INNER JOIN pg_statistic_ext AS s
        ON u.objid = s.oid AND u.relation = s.stxrelid AND u.classid = 'pg_statistic_ext'::regclass
)

SELECT
    u.relation,
    u.kind,
    u.name,
    coalesce(array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attname IS NOT NULL), '{}')
FROM used AS u
LEFT JOIN pg_attribute AS a ON u.relation = a.attrelid AND u.attnum = a.attnum
GROUP BY u.relation, u.kind, u.name
ORDER BY u.relation, u.kind, u.name COLLATE "C";

-- name: objects
-- Everything that is not a relation: (kind, name, definition, owner, grants, comment). Extensions have kind and name only.
WITH owned AS MATERIALIZED (
    -- What an extension brings, and the constructors of a range.
    SELECT d.classid, d.objid
    FROM pg_depend AS d
    WHERE d.deptype = 'e' OR (d.deptype = 'i' AND d.classid = 'pg_proc'::regclass)
),

home AS MATERIALIZED (
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl
    FROM pg_namespace AS n
    WHERE n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired') AND n.nspname !~ '^pg_'
),

found AS (
    SELECT
        'pg_namespace'::regclass::oid AS classid,
        h.oid AS objid,
        'schema' AS kind,
        quote_ident(h.nspname) AS name,
        '' AS definition,
        h.nspowner AS owner,
        coalesce(h.nspacl, acldefault('n', h.nspowner)) AS acl
    FROM home AS h
    UNION ALL
    SELECT
        'pg_proc'::regclass::oid,
        p.oid,
        CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
        p.oid::regprocedure::text,
        CASE
            WHEN p.prokind = 'a' THEN (
                SELECT concat_ws(
                    ' ', a.aggkind, a.aggtransfn::regprocedure, a.aggtranstype::regtype, a.aggfinalfn, a.aggcombinefn,
                    a.aggsortop::regoperator, a.agginitval, pg_get_function_arguments(p.oid), p.proparallel
                )
                FROM pg_aggregate AS a WHERE a.aggfnoid = p.oid
            )
            ELSE pg_get_functiondef(p.oid)
        END,
        p.proowner,
        coalesce(p.proacl, acldefault('f', p.proowner))
    FROM pg_proc AS p
    INNER JOIN home AS h ON p.pronamespace = h.oid
    UNION ALL
    SELECT
        'pg_type'::regclass::oid,
        t.oid,
        CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'r' THEN 'range' ELSE 'composite' END,
        t.oid::regtype::text,
        CASE t.typtype
            WHEN 'e' THEN (
                SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                FROM pg_enum AS e WHERE e.enumtypid = t.oid
            )
            WHEN 'd' THEN concat_ws(
                ' ', format_type(t.typbasetype, t.typtypmod), CASE WHEN t.typnotnull THEN 'NOT NULL' END,
                CASE WHEN t.typcollation <> b.typcollation THEN 'COLLATE ' || t.typcollation::regcollation::text END,
                'DEFAULT ' || t.typdefault, (
                    SELECT string_agg(
                        concat_ws(' ', quote_ident(k.conname), pg_get_constraintdef(k.oid)), ', '
                        ORDER BY k.conname COLLATE "C"
                    )
                    FROM pg_constraint AS k WHERE k.contypid = t.oid AND k.contype = 'c'
                )
            )
            WHEN 'r' THEN (
                SELECT concat_ws(' ', format_type(r.rngsubtype, NULL), r.rngcollation::regcollation, r.rngsubdiff)
                FROM pg_range AS r WHERE r.rngtypid = t.oid
            )
            ELSE (
                SELECT string_agg(
                    concat_ws(
                        ' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                        CASE
                            WHEN a.attcollation <> x.typcollation THEN 'COLLATE ' || a.attcollation::regcollation::text
                        END
                    ), ', ' ORDER BY a.attnum
                )
                FROM pg_attribute AS a
                INNER JOIN pg_type AS x ON a.atttypid = x.oid
                WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            )
        END,
        t.typowner,
        coalesce(t.typacl, acldefault('T', t.typowner))
    FROM pg_type AS t
    INNER JOIN home AS h ON t.typnamespace = h.oid
    LEFT JOIN pg_type AS b ON t.typbasetype = b.oid
    LEFT JOIN pg_class AS c ON t.typrelid = c.oid
    WHERE t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c')
    UNION ALL
    SELECT
        'pg_class'::regclass::oid,
        c.oid,
        'sequence',
        c.oid::regclass::text,
        concat_ws(
            ' ', format_type(s.seqtypid, NULL), 'start', s.seqstart, 'increment', s.seqincrement, 'min', s.seqmin,
            'max', s.seqmax, 'cache', s.seqcache, CASE WHEN s.seqcycle THEN 'cycle' END,
            CASE WHEN c.relpersistence <> 'p' THEN 'persistence ' || c.relpersistence::text END,
            (
                SELECT 'owned by ' || d.refobjid::regclass::text || '.' || quote_ident(a.attname)
                FROM pg_depend AS d
                INNER JOIN pg_attribute AS a ON d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
                WHERE
                    d.classid = 'pg_class'::regclass AND d.objid = c.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
            )
        ),
        c.relowner,
        coalesce(c.relacl, acldefault('s', c.relowner))
    FROM pg_sequence AS s
    INNER JOIN pg_class AS c ON s.seqrelid = c.oid
    INNER JOIN home AS h ON c.relnamespace = h.oid
    UNION ALL
    SELECT
        'pg_event_trigger'::regclass::oid,
        e.oid,
        'event trigger',
        quote_ident(e.evtname),
        concat_ws(' ', e.evtevent, array_to_string(e.evttags, ', '), e.evtfoid::regprocedure, e.evtenabled),
        e.evtowner,
        NULL
    FROM pg_event_trigger AS e
    UNION ALL
    SELECT
        'pg_publication'::regclass::oid,
        b.oid,
        'publication',
        quote_ident(b.pubname),
        concat_ws(
            ' ', CASE WHEN b.puballtables THEN 'all tables' END, CASE WHEN b.pubinsert THEN 'insert' END,
            CASE WHEN b.pubupdate THEN 'update' END, CASE WHEN b.pubdelete THEN 'delete' END,
            CASE WHEN b.pubtruncate THEN 'truncate' END, CASE WHEN b.pubviaroot THEN 'via root' END,
            (
                SELECT string_agg(
                    concat_ws(
                        ' ', r.prrelid::regclass, (
                            SELECT '(' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')'
                            FROM pg_attribute AS a WHERE a.attrelid = r.prrelid AND a.attnum = ANY(r.prattrs)
                        ), pg_get_expr(r.prqual, r.prrelid)
                    ), ', ' ORDER BY r.prrelid::regclass::text COLLATE "C"
                )
                FROM pg_publication_rel AS r WHERE r.prpubid = b.oid
            ),
            (
                SELECT 'schemas ' || string_agg(m.nspname, ', ' ORDER BY m.nspname)
                FROM pg_publication_namespace AS s
                INNER JOIN pg_namespace AS m ON s.pnnspid = m.oid
                WHERE s.pnpubid = b.oid
            )
        ),
        b.pubowner,
        NULL
    FROM pg_publication AS b
)

SELECT
    f.kind,
    f.name,
    f.definition,
    pg_get_userbyid(f.owner),
    ARRAY(SELECT a.item::text FROM unnest(f.acl) AS a (item) ORDER BY a.item::text COLLATE "C"),
    obj_description(f.objid, f.classid::regclass::text::name)
FROM found AS f
WHERE NOT EXISTS (SELECT FROM owned AS o WHERE o.classid = f.classid AND o.objid = f.objid)
UNION ALL
SELECT 'extension', e.extname || ' ' || e.extversion, NULL, NULL, NULL, NULL
FROM pg_extension AS e;

-- name: exclusive
-- Who holds, or waits for, a lock that keeps even readers of the catalog out.
SELECT l.relation::regclass::text, l.pid, a.usename::text
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON l.pid = a.pid
WHERE
    l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
    AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
ORDER BY l.granted DESC, l.relation
LIMIT 5;
