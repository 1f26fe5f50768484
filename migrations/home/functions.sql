-- The one door to a tenant's rows and what it needs. Replaced whole at every upgrade; all of it owned by landlord_guard.
-- The mode's own three functions (seal_ok, sealed_tenant, seal) come from modes/.

-- lock_key is what transactions of a tenant at a home share, and what a mover takes alone. Readers have a key of their
-- own, so that they go on while writers are drained.
create or replace function landlord.lock_key(p_tenant text, p_home text, p_read_only boolean) returns bigint
    language sql immutable parallel safe
    return pg_catalog.hashtextextended(p_tenant || '@' || p_home, case when p_read_only then 2 else 1 end);

-- bypass_key is shared by whoever writes here without entering a tenant (admin work, backfills).
create or replace function landlord.bypass_key() returns bigint
    language sql immutable parallel safe
    return pg_catalog.hashtextextended('landlord bypass', 3);

-- no_tenant turns a missing tenant into an error: never zero rows, never somebody's rows.
create or replace function landlord.no_tenant() returns text
    language plpgsql stable parallel safe
as $$
begin
    raise exception 'no tenant in this transaction' using errcode = 'LL001',
        hint = 'Go through the router: every transaction of a tenant starts with landlord.enter.';
end $$;

-- enter opens a tenant for this transaction, or refuses. The order is the guarantee:
--   1. the token, so that a forger never queues on a tenant's lock;
--   2. the lock, which a mover drains;
--   3. the fence row, read after the wait (volatile: each statement in here has a new snapshot);
--   4. the register that the policies read.
-- Nothing of the tenant has run when it raises, so the caller may always try again elsewhere.
--
-- A fence whose time is up counts as open. It is lowered or passed on only by the session that raised it, while that holds the
-- lock, and only in time: whoever has the lock here and finds it overdue knows that nobody will pass it on any more.
create or replace function landlord.enter(
    p_tenant text, p_home text, p_epoch bigint, p_kid int, p_exp bigint, p_mac bytea) returns text
    language plpgsql volatile security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '5s'
as $$
declare
    v_read_only constant boolean := current_setting('transaction_read_only')::boolean;
    v_sealed    constant text := landlord.sealed_tenant();
    v_epoch     bigint;
    v_state     text;
    v_model     text;
    v_until     timestamptz;
    v_moved_to  jsonb;
begin
    if landlord.seal_ok(p_tenant, p_home, p_kid, p_exp, p_mac) is not true then
        raise exception 'the seal is not valid here' using errcode = 'LL005';
    end if;
    if v_sealed <> p_tenant then
        raise exception 'this transaction belongs to another tenant' using errcode = 'LL005';
    end if;

    perform pg_advisory_xact_lock_shared(landlord.lock_key(p_tenant, p_home, v_read_only));

    if v_read_only or current_setting('transaction_isolation') = 'read committed' then
        select epoch, state, model, fenced_until, moved_to into v_epoch, v_state, v_model, v_until, v_moved_to
          from landlord.fence where tenant = p_tenant and home = p_home;
    else
        -- The snapshot is older than the wait: only a row lock shows a fence that was raised meanwhile (40001).
        select epoch, state, model, fenced_until, moved_to into v_epoch, v_state, v_model, v_until, v_moved_to
          from landlord.fence where tenant = p_tenant and home = p_home for share;
    end if;

    if v_state is distinct from 'open' or v_epoch is distinct from p_epoch then
        if v_state = 'suspended' then
            raise exception 'tenant is suspended' using errcode = 'LL004';
        elsif v_state = 'importing'
              or (v_state = 'fenced' and not v_read_only and coalesce(v_until, 'infinity') >= clock_timestamp()) then
            raise exception 'tenant is being moved' using errcode = 'LL003';
        elsif v_state is null or v_state = 'moved' or v_epoch is distinct from p_epoch then
            if v_state in ('open', 'fenced') and v_epoch > p_epoch then -- it has been away, and is back
                v_moved_to := jsonb_build_object('home', p_home, 'model', v_model, 'epoch', v_epoch);
            end if;
            raise exception 'tenant is not here at this epoch' using errcode = 'LL002',
                detail = coalesce(v_moved_to::text, '');
        end if;
    end if;

    perform landlord.seal(p_tenant, p_home, p_kid, p_exp, p_mac);
    return p_tenant;
end $$;

-- admin_enter is the door for work across tenants: it gives the reason to the log and shares the bypass key, which a
-- cutover takes alone. Read-only work is not logged here, because it cannot write.
create or replace function landlord.admin_enter(p_reason text) returns text
    language plpgsql volatile security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '5s'
as $$
begin
    if p_reason is null or btrim(p_reason) = '' then
        raise exception 'work across tenants needs a reason' using errcode = '22023';
    end if;
    perform pg_advisory_xact_lock_shared(landlord.bypass_key());
    if not current_setting('transaction_read_only')::boolean then
        insert into landlord.admin_log (login, reason) values (session_user, p_reason);
    end if;
    return p_reason;
end $$;

-- secure_table gives one table what its class asks for. A table is tenant-owned when it has tenant_id; else its comment
-- says "landlord: reference" (read-only to the application) or "landlord: global"; else it is closed to the application.
create or replace procedure landlord.secure_table(p_table regclass, p_app name, p_tenant text)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_class text := substring(obj_description(p_table, 'pg_class') from '^landlord: (reference|global)');
    -- A schema or database home has one tenant, and nobody else writes there either.
    v_own   text := format('(select landlord.tenant()) = %L', p_tenant);
    v_type  text;
    v_exact boolean;
    v_child boolean;
    v_alter text := 'owner to landlord_owner';
begin
    select format_type(a.atttypid, a.atttypmod), coalesce(o.collisdeterministic, true)
      into v_type, v_exact
      from pg_attribute a left join pg_collation o on o.oid = a.attcollation
     where a.attrelid = p_table and a.attname = 'tenant_id' and not a.attisdropped;
    select c.relispartition into v_child from pg_class c where c.oid = p_table;

    -- varchar(10) would cut two tenants to one, and a case-insensitive collation would take one for the other.
    if not v_exact or v_type not in ('uuid', 'bigint', 'integer', 'text', 'character varying') then
        raise exception 'tenant_id of % cannot tell all tenants apart: its type is %', p_table, v_type
            using errcode = '0A000', hint = 'Make it uuid, bigint or text, with a deterministic collation.';
    end if;
    if v_type is not null then
        v_own := concat_ws(' and ', format('tenant_id = (select landlord.tenant()::%s)', v_type),
            case when p_tenant is not null then v_own end);
        v_alter := v_alter || format(', alter column tenant_id set default landlord.tenant()::%s, '
            'alter column tenant_id set not null', v_type);
    end if;
    if v_type is not null or v_class is null and p_tenant is not null then
        v_alter := v_alter || ', enable row level security, force row level security';
    end if;
    -- One ALTER TABLE: after each, PostgreSQL reads all that it knows of the table anew.
    execute format('alter table %s %s', p_table, v_alter);
    execute format('revoke all on %s from public, %I, landlord_admin', p_table, p_app);

    if v_type is null and (v_class is not null or p_tenant is null) then
        execute format('grant select, insert, update, delete on %s to landlord_admin', p_table);
        if v_class is not null and not v_child then
            execute format('grant select on %s to %I', p_table, p_app);
        end if;
        return;  -- without a class it stays closed to the application, and the audit says so
    end if;

    if exists (select from pg_policy p where p.polrelid = p_table) then
        execute format('drop policy if exists landlord_allow on %s', p_table);
        execute format('drop policy if exists landlord_fence on %s', p_table);
    end if;
    execute format('create policy landlord_allow on %s as permissive for all to public using (%s) with check (%s)',
        p_table, v_own, v_own);
    execute format('create policy landlord_fence on %s as restrictive for all to public using (%s) with check (%s)',
        p_table, v_own, v_own);
    if v_child then  -- a partition is reached through its parent only
        execute format('grant select, insert, update, delete on %s to landlord_admin', p_table);
    else
        execute format('grant select, insert, update, delete on %s to landlord_admin, %I', p_table, p_app);
    end if;
end $$;
