-- What the Down section of a migration is wrapped in when it is taken back from one of many schemas. The application can call
-- neither.

-- begin_undo opens a step back, or refuses it; nothing of the file has run when it raises. Locks, leases and p_alone are those
-- of begin_step. Only the newest version of a schema can be undone, with the text that was applied, and only what an expand
-- step has added: after the other phases, what was there before is gone.
create or replace function landlord.begin_undo(
    p_schema name, p_version bigint, p_checksum text, p_run uuid, p_lease bigint, p_alone boolean) returns boolean
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_checksum   text;
    v_phase      text;
    v_unfinished bigint;
begin
    if not (select rolsuper or rolbypassrls from pg_roles where rolname = current_user) then
        raise exception 'role % does not have BYPASSRLS', current_user using errcode = '42501',
            hint = 'landlord init gives landlord_migrator what it needs.';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('landlord build ' || p_schema, 0));

    -- Each statement in here has a new snapshot: what follows sees what the last holder of the lock has committed.
    select s.unfinished into v_unfinished from landlord.schema_step s where s.schema = p_schema;
    insert into landlord.schema_step as s (schema, run, lease, unfinished)
    values (p_schema, p_run, p_lease, case when p_alone then -p_version end)
        on conflict (schema) do update set run = excluded.run, lease = excluded.lease, unfinished = excluded.unfinished
         where s.lease < excluded.lease or s.lease = excluded.lease and s.run = excluded.run;
    if not found then
        raise exception 'another worker has taken this schema over' using errcode = 'LL007';
    end if;

    if exists (select from landlord.move_hold h where h.schema = p_schema) then
        raise exception 'the home is being moved' using errcode = 'LL009';
    end if;

    if exists (select from landlord.schema_version v where v.schema = p_schema and v.version > p_version) then
        raise exception 'a later version than % is applied', p_version using errcode = 'LL006',
            hint = 'Undo that one first, with the files that it came from.';
    end if;
    select v.checksum, v.phase into v_checksum, v_phase
      from landlord.schema_version v where v.schema = p_schema and v.version = p_version;
    if not found then
        raise exception 'version % is not applied', p_version using errcode = 'LL008';
    elsif v_checksum <> p_checksum then
        raise exception 'version % was applied from another text', p_version using errcode = 'LL006',
            hint = 'Restore the file.';
    elsif v_phase <> 'expand' then
        raise exception 'version % was applied as a % step, which cannot be undone', p_version, v_phase using errcode = '55000';
    end if;
    return coalesce(v_unfinished = -p_version, false);
end $$;

-- end_undo closes it, in the transaction of the file's statements: a version is on record if and only if it is applied. The
-- migrator deletes no version rows by itself, so it runs as its definer, and deletes what begin_undo gives leave for only.
create or replace function landlord.end_undo(p_schema name, p_version bigint, p_run uuid, p_lease bigint) returns void
    language plpgsql volatile security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    update landlord.schema_step s set unfinished = null
     where s.schema = p_schema and s.run = p_run and s.lease = p_lease;
    if not found then
        raise exception 'another worker has taken this schema over' using errcode = 'LL007';
    end if;
    -- A later backfill that had begun would go on where it stopped, over what is empty again when this version comes back.
    delete from landlord.backfill b where b.schema = p_schema and b.version > p_version;
    delete from landlord.schema_version v
     where v.schema = p_schema and v.version = p_version and v.phase = 'expand'
       and not exists (select from landlord.schema_version w where w.schema = p_schema and w.version > p_version);
    if not found then
        raise exception 'version % is not applied', p_version using errcode = 'LL008';
    end if;
end $$;
