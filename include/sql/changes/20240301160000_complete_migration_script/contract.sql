-- After the commit. VACUUM cannot be in a transaction, so it is a step of its own.
VACUUM (ANALYZE) public.customers;
