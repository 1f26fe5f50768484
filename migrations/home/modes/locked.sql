-- Mode locked: as plain, and no single statement of the application can write the setting, because the only function that
-- can is taken away. Stacked SQL still can; the router sends none.
do $$
declare
    f regprocedure;
begin
    for f in select p.oid from pg_catalog.pg_proc p
              where p.pronamespace = 'pg_catalog'::regnamespace and p.prosrc = 'set_config_by_name'
    loop
        execute format('revoke execute on function %s from public', f);
        execute format('grant execute on function %s to landlord_guard, landlord_migrator, landlord_admin', f);
    end loop;
end $$;
