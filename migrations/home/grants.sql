-- Who may do what with the home objects. Run after functions.sql and the mode's files, at every upgrade.
do $$
declare
    v_app constant name := (select app_login from landlord.identity);
    v_db  constant name := current_database();
    r     record;
begin
    alter schema landlord owner to landlord_guard;
    for r in select c.oid::regclass as rel, c.relowner <> 'landlord_guard'::regrole as fresh from pg_class c
              where c.relnamespace = 'landlord'::regnamespace and c.relkind = 'r'
    loop
        if r.fresh then  -- else it is in use: ALTER TABLE would wait for every open transaction, and all others behind it
            execute format('alter table %s owner to landlord_guard', r.rel);
        end if;
        execute format('revoke all on %s from public, %I', r.rel, v_app);
    end loop;
    for r in select p.oid::regprocedure as fn from pg_proc p where p.pronamespace = 'landlord'::regnamespace
    loop
        execute format('alter routine %s owner to landlord_guard', r.fn);
        execute format('revoke all on routine %s from public, %I', r.fn, v_app);
    end loop;

    revoke all on schema landlord, extensions, public from public;
    execute format('grant usage on schema landlord, extensions, public '
        'to %I, landlord_owner, landlord_admin, landlord_migrator', v_app);
    grant create on schema public, extensions to landlord_owner, landlord_migrator;

    -- What a policy or a default calls, everybody who may touch a table must be able to call.
    for r in select p.oid::regprocedure as fn from pg_proc p
              where p.pronamespace = 'landlord'::regnamespace
                and p.proname in ('tenant', 'no_tenant', 'checked_tenant')
    loop
        execute format('grant execute on function %s to %I, landlord_owner, landlord_admin, landlord_migrator', r.fn, v_app);
    end loop;
    execute format('grant execute on function landlord.enter to %I', v_app);
    execute format('grant execute on function landlord.demand to %I', v_app);
    execute format('grant select on landlord.identity to %I, landlord_admin, landlord_migrator', v_app);
    grant execute on function landlord.admin_enter to landlord_admin;
    grant execute on routine landlord.secure, landlord.secure_table, landlord.secure_relation, landlord.secure_routine,
        landlord.check_links to landlord_migrator;
    grant select, insert on landlord.schema_version to landlord_migrator;
    grant execute on function landlord.begin_step, landlord.end_step to landlord_migrator;
    grant execute on function landlord.begin_undo, landlord.end_undo to landlord_migrator;
    grant select, insert, update on landlord.schema_step, landlord.backfill to landlord_migrator;
    grant select on landlord.move_hold to landlord_migrator;
    grant execute on routine landlord.begin_backfill, landlord.begin_batch, landlord.end_batch, landlord.bypass_key,
        landlord.mirror_column, landlord.unmirror_column, landlord.mirrored_column, landlord.mirror_name to landlord_migrator;

    -- Only who has business here connects, and nobody makes temporary tables: one could shadow a real table for the
    -- next tenant on the same connection.
    execute format('revoke all on database %I from public', v_db);
    execute format('grant connect on database %I to %I, landlord_admin, landlord_migrator', v_db, v_app);
    execute format('alter role %I in database %I set search_path = public, extensions, pg_temp', v_app, v_db);
    execute format('alter role landlord_admin in database %I set search_path = public, extensions, pg_temp', v_db);
    execute format('alter role landlord_migrator in database %I set search_path = public, extensions, pg_temp', v_db);
end $$;

-- What landlord_owner or the migrator makes later is closed until it is secured.
alter default privileges for role landlord_owner, landlord_migrator revoke execute on functions from public;
