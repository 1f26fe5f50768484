-- What a migration is wrapped in when it is applied to one of many schemas. Both run with the rights of their caller, the
-- migrator: the application can call neither.

-- begin_step opens a step, or refuses it; nothing of the file has run when it raises. It locks the schema against every
-- other step and against the building of a new home. p_alone: the file runs outside a transaction, so that this is committed
-- before it; the caller holds the lock for its session then. It returns whether the same file had begun before and was cut off.
-- p_lease rises over all runs: who comes back late, of whatever run, has a lower one than whoever came after.
create or replace function landlord.begin_step(
    p_schema name, p_version bigint, p_checksum text, p_run uuid, p_lease bigint, p_alone boolean) returns boolean
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off  -- a session keeps its plans while these tables grow
    set plan_cache_mode = force_generic_plan
as $$
declare
    v_bypass     boolean;
    v_run        uuid;
    v_lease      bigint;
    v_unfinished bigint;
    v_held       boolean;
    v_newest     bigint;
    v_have       text;
    v_begins     constant bigint := case when p_alone then p_version end;
begin
    perform pg_advisory_xact_lock(hashtextextended('landlord build ' || p_schema, 0));

    -- Each statement in here has a new snapshot: this one sees what the last holder of the lock has committed.
    select r.rolsuper or r.rolbypassrls, s.run, s.lease, s.unfinished, v.version,
           exists (select from landlord.move_hold h where h.schema = p_schema)
      into v_bypass, v_run, v_lease, v_unfinished, v_newest, v_held
      from pg_roles r
      left join landlord.schema_step s on s.schema = p_schema
      left join lateral (select version from landlord.schema_version where schema = p_schema order by version desc limit 1) v on true
     where r.rolname = current_user;

    -- Under row-level security, what checks all rows (a foreign key, an update) would see none, and find nothing wrong.
    if v_bypass is not true then
        raise exception 'role % does not have BYPASSRLS', current_user using errcode = '42501',
            hint = 'landlord init gives landlord_migrator what it needs.';
    elsif v_lease > p_lease or v_lease = p_lease and v_run <> p_run then
        raise exception 'another worker has taken this schema over' using errcode = 'LL007';
    elsif v_held then
        raise exception 'the home is being moved' using errcode = 'LL009';
    elsif v_newest >= p_version then
        select v.checksum into v_have from landlord.schema_version v where v.schema = p_schema and v.version = p_version;
        if v_have = p_checksum then
            raise exception 'version % is applied already', p_version using errcode = 'LL008';
        elsif v_have is not null then
            raise exception 'version % was applied from another text', p_version using errcode = 'LL006',
                hint = 'Restore the file, and put the change into a file of its own.';
        end if;
        raise exception 'a later version than % is applied', p_version using errcode = 'LL006',
            hint = 'Use the newer files.';
    end if;

    -- The row is there already when the same worker goes on with the next file.
    if v_run is distinct from p_run or v_lease is distinct from p_lease or v_unfinished is distinct from v_begins then
        insert into landlord.schema_step as s (schema, run, lease, unfinished) values (p_schema, p_run, p_lease, v_begins)
            on conflict (schema) do update set run = excluded.run, lease = excluded.lease, unfinished = excluded.unfinished;
    end if;
    return coalesce(v_unfinished = p_version, false);
end $$;

drop function if exists landlord.end_step(name, bigint, text, text, uuid, bigint);

-- end_step closes it, in the transaction of the file's statements: a version is on record if and only if it was applied. p_path is the
-- caller's search_path: a file that has changed it may have made its objects elsewhere, out of what was secured.
create or replace function landlord.end_step(
    p_schema name, p_version bigint, p_checksum text, p_phase text, p_run uuid, p_lease bigint, p_path text) returns void
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off  -- a session keeps its plans while these tables grow
    set plan_cache_mode = force_generic_plan
as $$
begin
    if p_path <> (case when p_schema in ('landlord.server', 'landlord.database') then '' else quote_ident(p_schema) || ', ' end
                  || 'extensions, pg_temp') then
        raise exception 'the file has set search_path to %', p_path using errcode = '55000',
            hint = 'What it makes belongs into the home alone: take out what sets search_path, also in a DO block.';
    end if;
    insert into landlord.schema_version (schema, version, checksum, phase, run)
    select p_schema, p_version, p_checksum, p_phase, p_run
      from landlord.schema_step s
     where s.schema = p_schema and s.run = p_run and s.lease = p_lease;
    if not found then
        raise exception 'another worker has taken this schema over' using errcode = 'LL007';
    end if;
    update landlord.schema_step s set unfinished = null
     where s.schema = p_schema and s.unfinished is not null;
end $$;
