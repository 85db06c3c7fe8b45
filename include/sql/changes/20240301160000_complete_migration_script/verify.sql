-- Step 7: fails when a row is not as it should be.
DO $$
DECLARE
    wrong integer;
BEGIN
    SELECT count(*) INTO wrong
    FROM public.customers
    WHERE email_domain IS DISTINCT FROM split_part(email, '@', 2);

    IF wrong > 0 THEN
        RAISE EXCEPTION 'data validation failed: % invalid records', wrong;
    END IF;
END $$;
