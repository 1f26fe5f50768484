-- Mode sealed: the tenant stands in a setting that only a superuser or landlord_guard may write, so that no SQL of the
-- application can switch tenants. backtrace_functions is a harmless, world-readable string; its check allows letters,
-- digits and underscores, hence the hexadecimal form.

create or replace function landlord.sealed_tenant() returns text
    language sql stable parallel safe
    return case when pg_catalog.current_setting('backtrace_functions') like 't\_%'
        then pg_catalog.convert_from(pg_catalog.decode(
            pg_catalog.substr(pg_catalog.current_setting('backtrace_functions'), 3), 'hex'), 'UTF8') end;

create or replace function landlord.tenant() returns text
    language sql stable parallel safe
    return case when pg_catalog.current_setting('backtrace_functions') like 't\_%'
        then pg_catalog.convert_from(pg_catalog.decode(
            pg_catalog.substr(pg_catalog.current_setting('backtrace_functions'), 3), 'hex'), 'UTF8')
        else landlord.no_tenant() end;

create or replace function landlord.seal(p_tenant text, p_home text, p_kid int, p_exp bigint, p_mac bytea) returns text
    language sql volatile
    return pg_catalog.set_config('backtrace_functions',
        't_' || pg_catalog.encode(pg_catalog.convert_to(p_tenant, 'UTF8'), 'hex'), true);

-- Advisory locks are one name space for all tenants: whoever may take them can hold another tenant's key. And a DO block
-- could replace the statements that the router has prepared on a shared connection.
do $$
declare
    f regprocedure;
begin
    for f in select p.oid from pg_catalog.pg_proc p
              where p.pronamespace = 'pg_catalog'::regnamespace
                and p.proname ~ '^pg_(try_)?advisory_(xact_)?(un)?lock'
    loop
        execute format('revoke execute on function %s from public', f);
        execute format('grant execute on function %s to landlord_guard, landlord_migrator, landlord_admin', f);
    end loop;
    -- Large objects belong to the login, not to a tenant; and sessions of one login could end each other.
    for f in select p.oid from pg_catalog.pg_proc p
              where p.pronamespace = 'pg_catalog'::regnamespace
                and (p.proname ~ '^lo_' and p.proname not in ('lo_import', 'lo_export') or p.proname in ('loread', 'lowrite', 'pg_cancel_backend', 'pg_terminate_backend'))
    loop
        execute format('revoke execute on function %s from public', f);
        execute format('grant execute on function %s to landlord_migrator, landlord_admin', f);
    end loop;
    revoke usage on language plpgsql from public;
    grant usage on language plpgsql to landlord_guard, landlord_owner, landlord_migrator;
end $$;
