-- A small shop with what the changes of the generic migration guide change: a table and a column that nobody needs, an
-- amount kept as text, NULLs where a value belongs, and rows whose customer, order or country is not there. The same
-- rows every time.
CREATE TABLE public.countries (
    code varchar(2) PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE public.customers (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL,
    fax varchar(30),
    country varchar(2) NOT NULL DEFAULT 'DE'
);

CREATE TABLE public.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer,
    total varchar(20) NOT NULL,
    status text,
    ordered_at timestamptz NOT NULL
);

CREATE TABLE public.order_items (
    order_id bigint NOT NULL,
    position integer NOT NULL,
    article text NOT NULL,
    PRIMARY KEY (order_id, position)
);

CREATE TABLE public.legacy_sessions (
    id integer PRIMARY KEY,
    customer_id integer REFERENCES public.customers,
    data jsonb NOT NULL
);

INSERT INTO public.countries (code, name) VALUES ('AT', 'Austria'), ('CH', 'Switzerland'), ('DE', 'Germany');

INSERT INTO public.customers (email, fax, country)
SELECT
    'customer' || n || '@example.com',
    CASE WHEN mod(n, 4) = 0 THEN '+49 30 ' || n END,
    (ARRAY['DE', 'AT', 'CH', 'LI', 'NO'])[mod(n, 5) + 1]
FROM generate_series(1, 500) AS n;

INSERT INTO public.orders (customer_id, total, status, ordered_at)
SELECT
    mod(n * 7, 510) + 1,
    (mod(n * 37, 100000) / 100.0)::numeric(10, 2)::text,
    CASE WHEN mod(n, 5) <> 0 THEN (ARRAY['new', 'paid', 'sent'])[mod(n, 3) + 1] END,
    timestamptz '2024-01-01 00:00:00+00' + n * interval '7 minutes'
FROM generate_series(1, 20000) AS n;

INSERT INTO public.order_items (order_id, position, article)
SELECT n, p, 'article ' || mod(n * p, 97)
FROM generate_series(1, 20050) AS n
CROSS JOIN generate_series(1, 2) AS p;

INSERT INTO public.legacy_sessions (id, customer_id, data)
SELECT n, mod(n, 500) + 1, jsonb_build_object('seen', n)
FROM generate_series(1, 1000) AS n;

CREATE INDEX orders_customer ON public.orders (customer_id);
CREATE INDEX customers_country ON public.customers (country);
ANALYZE;
