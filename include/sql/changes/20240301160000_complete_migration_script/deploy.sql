-- Step 3 of the script: what is added. The backup of step 2 was taken and verified before this runs.
ALTER TABLE public.customers ADD COLUMN email_domain text;
COMMENT ON COLUMN public.customers.email_domain IS 'What is behind the @ of the address';

CREATE INDEX CONCURRENTLY customers_email_search ON public.customers USING gin (email gin_trgm_ops);
