-- Runs also when only a part of deploy.sql and cutover.sql did.
ALTER TABLE public.customers DROP CONSTRAINT IF EXISTS customers_email_domain;
DROP INDEX IF EXISTS public.customers_email_search;
ALTER TABLE public.customers DROP COLUMN IF EXISTS email_domain;
