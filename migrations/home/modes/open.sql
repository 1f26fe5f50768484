-- Every mode begins here: what another mode has taken from the public is given back, and nothing else. Such functions are
-- told by landlord's own grants on them.
do $$
declare
    f record;
begin
    for f in select p.oid::regprocedure as fn, p.proname in ('lo_import', 'lo_export') as guarded
               from pg_catalog.pg_proc p
              where p.pronamespace = 'pg_catalog'::regnamespace and p.proacl is not null
                and exists (select from aclexplode(p.proacl) a where a.grantee = 'landlord_migrator'::regrole)
                and not exists (select from aclexplode(p.proacl) a where a.grantee = 0)
    loop
        execute format('revoke execute on function %s from landlord_guard, landlord_migrator, landlord_admin', f.fn);
        if not f.guarded then -- those read and write the server's files, and were never the public's
            execute format('grant execute on function %s to public', f.fn);
        end if;
    end loop;
    if exists (select from pg_catalog.pg_language l, aclexplode(l.lanacl) a
                where l.lanname = 'plpgsql' and a.grantee = 'landlord_migrator'::regrole) then
        revoke usage on language plpgsql from landlord_guard, landlord_owner, landlord_migrator;
        grant usage on language plpgsql to public;
    end if;
end $$;
