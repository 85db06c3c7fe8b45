-- Step 5: constraints, once the backfill of step 4 has filled every row. The application fills new ones by now.
BEGIN;

ALTER TABLE public.customers ADD CONSTRAINT customers_email_domain CHECK (email_domain IS NOT NULL) NOT VALID;

COMMIT;

ALTER TABLE public.customers VALIDATE CONSTRAINT customers_email_domain;
